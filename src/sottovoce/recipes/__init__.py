"""Recipes: read, checked against a model, explained; the built-in ones."""

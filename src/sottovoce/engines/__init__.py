"""What runs a model. One file a runtime; the torch engine is the reference."""

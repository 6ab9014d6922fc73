"""Tensors in, tensors out: no model, file, device or clock in here."""

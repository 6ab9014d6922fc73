"""The folder that a compression writes: layers, base checkpoint, model card."""

"""What a model can do without, found out before it is compressed."""

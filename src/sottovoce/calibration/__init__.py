"""Clips, and what is summed over them: statistics of what each layer reads."""

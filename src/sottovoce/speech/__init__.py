"""Audio in, text out, and how the two are compared: reading, normalising, scoring, corpora."""

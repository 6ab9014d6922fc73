"""Two small speech models and four sets of speech, for trying and testing sottovoce: see `sottovoce.built_in`."""

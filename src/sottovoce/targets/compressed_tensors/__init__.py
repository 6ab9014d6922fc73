"""compressed-tensors: a checkpoint with packed integers that transformers loads, and vLLM."""

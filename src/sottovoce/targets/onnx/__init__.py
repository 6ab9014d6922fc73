"""ONNX Runtime: two graphs written from an artifact's own integers, and run again."""

"""ExecuTorch: one program with two methods, whose products XNNPACK computes."""

"""Training: what finetune, distill and lora share, and what trained the built-in models."""

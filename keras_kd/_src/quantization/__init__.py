"""Quantization-aware training and distillation."""

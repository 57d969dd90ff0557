"""The quickstart: distillation with few labels and many images."""

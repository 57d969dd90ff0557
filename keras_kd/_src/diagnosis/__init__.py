"""The doctor: what is likely to go wrong, found before training."""

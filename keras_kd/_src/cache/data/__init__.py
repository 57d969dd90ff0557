"""Data sets: read in batches, augmented and joined with predictions."""

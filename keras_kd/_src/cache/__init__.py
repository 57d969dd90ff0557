"""Cached teacher predictions: computed once, stored, read in each epoch."""

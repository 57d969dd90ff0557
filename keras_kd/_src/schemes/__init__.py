"""Schemes: training in stages, with one way of saving and resuming."""

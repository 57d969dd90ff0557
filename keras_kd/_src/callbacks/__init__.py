"""Callbacks that act between the epochs of `fit`."""

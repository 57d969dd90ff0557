"""Layers: adapters of features, and banks of samples."""

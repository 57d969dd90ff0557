"""Layers: adapters of features, and banks of one row per sample."""

"""Callbacks: what changes while training."""

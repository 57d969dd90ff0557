"""Checks that a loss keeps the contract of this library's own."""

"""Checks that a loss meets the contract of this library's losses."""

"""Losses: each compares a teacher view with a student view."""

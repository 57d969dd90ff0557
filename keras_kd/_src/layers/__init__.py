"""Adapters: layers that join a student's view to a teacher's."""

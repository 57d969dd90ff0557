"""The implementation: private, and free to change."""

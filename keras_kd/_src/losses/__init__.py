"""The losses, a method a file, and what they share."""

"""The Distiller, and what one training step is made of."""

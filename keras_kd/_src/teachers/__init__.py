"""Teachers: anything that answers a batch, as a Keras model."""

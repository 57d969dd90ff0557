"""Teachers: ensembles, functions and moving averages, as Keras models."""

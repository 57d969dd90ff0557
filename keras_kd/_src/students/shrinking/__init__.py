"""How a model is read, cut and put together again; for `students.shrink`."""

"""Has no doctests looked for in a module that needs KerasHub."""

collect_ignore = ["hub_models.py"]

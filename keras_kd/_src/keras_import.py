"""Imports Keras first, with advice in the error if its backend is missing."""

import importlib.util

BACKENDS = "jax", "tensorflow", "torch"


def advice(backend):
    """The advice if this backend, which Keras is set to, is not installed."""
    installed = [
        each for each in BACKENDS if importlib.util.find_spec(each) is not None
    ]
    if not installed:
        return (
            "Keras needs a backend, and none is installed. Install one, such "
            "as `pip install jax`, and set KERAS_BACKEND=jax before Python "
            "starts."
        )
    return (
        f"Keras is set to the backend {backend!r}, which is not installed; "
        f"{' and '.join(installed)} can be used. Set "
        f"KERAS_BACKEND={installed[0]} before Python starts."
    )


try:
    import keras  # noqa: F401
except ModuleNotFoundError as error:
    package = (error.name or "").split(".")[0]
    if package in BACKENDS:
        error.add_note(advice(package))
    raise

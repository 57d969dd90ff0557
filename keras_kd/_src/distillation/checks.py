"""Turns findings into the warnings and errors of `fit`.

The checks themselves, and their wording, are in `keras_kd._src.diagnosis`.
"""

import contextlib
import traceback
import warnings

from keras_kd._src.diagnosis.setup import quantized_student

# Beginnings of errors in which Keras and TensorFlow quote another error.
WRAPPED = (
    "Exception encountered when calling",
    "Could not automatically infer",
    "in user code:",
)


def warn(text):
    """Warns of a likely mistake."""
    warnings.warn(text, UserWarning, stacklevel=2)


def warn_of(findings):
    """Warns of what a check found, if anything."""
    for finding in findings:
        warn(finding.text)


def check_trainable(student):
    """Raises a `ValueError` if a student can train only biases and scales."""
    for finding in quantized_student(student):
        if finding.severity == "wrong":
            raise ValueError(
                f"The student can't be trained. Received: {finding.text}"
            )


# --- while a step is traced --------------------------------------------------


def uses_labels(teacher, transfers, metrics):
    """Whether anything besides the compiled loss uses labels."""
    return bool(
        metrics.others
        or metrics.weighted_others
        or teacher.takes_labels
        or any(
            "labels" in getattr(transfer.loss, "required_context", ())
            or any(rule.needs_labels for rule in transfer.rules)
            for transfer in transfers
        )
    )


@contextlib.contextmanager
def own_errors():
    """Raises errors of this package as they were, without what wraps them.

    Keras and TensorFlow wrap an error from inside a step in another one, with
    the arguments or the whole trace in its text.
    """
    try:
        yield
    except ValueError as error:
        own = error
        while own is not None and (_is_wrapped(own) or not _is_ours(own)):
            own = own.__cause__ or own.__context__
        if own is None or own is error:
            raise
        raise own from None


def _is_wrapped(error):
    return str(error).startswith(WRAPPED)


def _is_ours(error):
    # One from another process has no traceback.
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [frame.f_globals.get("__name__", "") for frame in frames[-1:]]
    package, *_ = __name__.split(".")
    return [name.split(".")[0] for name in names] == [package]

"""Errors of converters and runtimes."""

import contextlib

from keras_kd._src.backend import BACKEND


class ConverterError(ValueError):
    """A converter failed; that of another backend may succeed."""


@contextlib.contextmanager
def converter_errors(student, job):
    """Turns errors into a `ConverterError` with the student and a remedy.

    An `OSError`, such as that of a full disk, is raised as it is.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        remedy = ""
        if job.batch_size is None:
            remedy = "Try `batch_size=1`, as not all models can have any size. "
        raise ConverterError(
            f"The student {student.name!r} can't be exported to "
            f"{job.format!r} from {BACKEND}. {remedy}Received from the "
            f"converter or the runtime: {type(error).__name__}: {error}"
        ) from error

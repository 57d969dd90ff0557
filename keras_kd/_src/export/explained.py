"""What failed, where a converter or a runtime did."""

import contextlib

from keras_kd._src.backend import BACKEND


class ConverterError(ValueError):
    """A converter can't do it; another backend's may."""


@contextlib.contextmanager
def explained(student, job):
    """Says whose file it was, and what may help; not of a full disk."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        remedy = ""
        if job.batch_size is None:
            remedy = "Try `batch_size=1`, as not all work at any size. "
        raise ConverterError(
            f"The student {student.name!r} can't be exported to "
            f"{job.format!r} from {BACKEND}. {remedy}Received of the "
            f"converter or the runtime: {type(error).__name__}: {error}"
        ) from error

"""The contract of a verified loss, for anyone's loss."""

from keras_kd._src.testing.loss_case import LossCase
from keras_kd._src.testing.loss_checks import checks_of


def check_loss(make, teacher, student, **facts):
    """Checks that a loss keeps the contract that this library's losses keep.

    For the tests of a loss of your own. It is compared with NumPy in value and
    gradient, and tried at its minimum, with weights, in another order of the
    batch, with extreme and constant views, with one sample, in half precision,
    compiled and saved.

    Args:
        make: makes the loss: its class, or a function that takes
            `reduction` and `name`.
        teacher: the teacher's view, an array of six samples or more.
        student: the student's view.
        **facts: what else is true of it, as in `LossCase`.

    Returns:
        Names of the checks that were made.

    Raises:
        AssertionError: the loss fails a check, which is named.

    Example:
    >>> import keras_kd as kd
    >>> import numpy as np
    >>> teacher, student = np.random.default_rng(0).normal(size=(2, 6, 3))
    >>> checks = check_loss(
    ...     kd.losses.LogitMatching,
    ...     teacher.astype("float32"),
    ...     student.astype("float32"),
    ...     reference=lambda t, s: np.mean((t - s) ** 2, axis=-1),
    ... )
    >>> "numpy" in checks and "serialization" in checks
    True
    """
    case = LossCase(make, teacher, student, **facts)
    for name, check in checks_of(case).items():
        try:
            check(case)
        except AssertionError as error:
            raise AssertionError(f"check {name!r}: {error}") from error
    return list(checks_of(case))

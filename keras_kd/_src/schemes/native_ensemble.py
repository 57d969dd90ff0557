"""ONE: each branch of a model learns from the ensemble of all branches."""

from keras_kd._src.distillation.transfer import Transfer
from keras_kd._src.losses.soft_targets import SoftTargets
from keras_kd._src.students.gated_branches import ENSEMBLE


def native_ensemble(branches, *, temperature=3.0, weight=1.0):
    """Native ensemble (ONE): transfers from the gated sum to each branch.

    For training without a teacher: the ensemble of a student's branches is the
    teacher, and costs little more than the student alone.

        student = students.gated_branches(trunk, {"left": left, "right": right})
        distiller = SelfDistiller(student, schemes.native_ensemble(student))

        loss = cross-entropy of the ensemble and of each branch
            + weight * sum_k T^2 * KL(p_ensemble || p_k)

    Args:
        branches: the model that `students.gated_branches` made.
        temperature: T, positive; 3 in the paper.
        weight: weight of each transfer, a number or a `LearningRateSchedule`
            over training steps; 1 in the paper.

    Returns:
        List of `Transfer`s, one for each branch: `ensemble_to_<branch>`.

    Raises:
        ValueError: a number is out of range.

    Example:
    >>> import keras
    >>> import keras_kd as kd
    >>> trunk = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
    >>> student = kd.students.gated_branches(trunk, {
    ...     key: keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    ...     for key in ("left", "right")
    ... })
    >>> [transfer.name for transfer in native_ensemble(student)]
    ['ensemble_to_left', 'ensemble_to_right']

    Reference: Lan, Zhu and Gong, 2018, "Knowledge Distillation by On-the-Fly
    Native Ensemble", arXiv 1806.04606.
    """
    return [
        Transfer(
            SoftTargets(temperature=temperature),
            teacher=f"[{ENSEMBLE}]",
            student=f"[{branch}]",
            weight=weight,
            name=f"{ENSEMBLE}_to_{branch}",
        )
        for branch in branches.output
        if branch != ENSEMBLE
    ]

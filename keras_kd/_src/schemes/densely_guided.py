"""Densely guided distillation: all earlier models are teachers, with drops."""

from keras_kd._src.arguments import number
from keras_kd._src.distillation.transfer import Transfer
from keras_kd._src.losses.soft_targets import SoftTargets
from keras_kd._src.rules.drop_at_random import DropAtRandom


def densely_guided(teachers, *, temperature=4.0, weight=0.9, rate=None):
    """Densely guided (DGKD): transfers from all earlier models to a stage.

    In a plain chain of assistants, the errors of one assistant are passed on
    to all that follow. Here each stage learns from the first teacher and from
    all assistants in between. In each batch some of these teachers are left
    out, so that the student does not overfit the predictions of one. A `Stage`
    with `teachers="all"` does this by default; for other values:

        Stage(
            "student",
            make_student,
            teachers="all",
            transfers=lambda teachers: densely_guided(teachers, rate=0.5),
            ...
        )

        loss = hard_weight * compiled loss
             + weight / n * sum over n teachers of
               kept_k * T^2 KL(softmax(teacher_k / T) || softmax(student / T))

        kept_k = 0 with probability `rate`, else 1, drawn for each batch

    This is the paper's loss divided by the number of teachers, so that the
    labels count as in a plain stage. As in the paper, the terms of the
    remaining teachers are not scaled up for those dropped. The authors' code
    uses no labels by default, and drops exactly one teacher per batch; a rate
    of 1 / n drops one on average. A single teacher is never dropped.

    Args:
        teachers: the stage's teachers, oldest first: the members of the
            `Ensemble` that the `Chain` makes of them.
        temperature: temperature of the soft targets; 5 in the authors' code.
        weight: weight of all teachers together.
        rate: the probability that a teacher is left out of a batch, at least
            0 and less than 1; 1 / n by default.

    Returns:
        List of `Transfer`s, in the logs as `teacher_loss`,
        `assistant_1_loss`, `assistant_2_loss`, ....

    Raises:
        ValueError: a number is out of range.

    Example:
    >>> import keras
    >>> models = [keras.layers.Dense(3) for _ in range(3)]
    >>> [transfer.name for transfer in densely_guided(models)]
    ['teacher', 'assistant_1', 'assistant_2']

    Reference: Son et al., 2021, "Densely Guided Knowledge Distillation Using
    Multiple Teacher Assistants", arXiv 2009.08825.
    """
    weight = number(weight, "weight", least=0)
    count = len(teachers)
    rate = 1 / count if rate is None else rate
    return [
        Transfer(
            SoftTargets(temperature),
            teacher=f"members/{place}" if count > 1 else None,
            rules=[DropAtRandom(rate)] if count > 1 else [],
            weight=weight / count,
            name=f"assistant_{place}" if place else "teacher",
        )
        for place in range(count)
    ]

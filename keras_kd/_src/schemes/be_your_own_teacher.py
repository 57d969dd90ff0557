"""BYOT: a model's early layers learn from its last ones."""

from keras_kd._src.distillation.transfer import Transfer
from keras_kd._src.layers.feature_adapter import FeatureAdapter
from keras_kd._src.losses.feature_matching import FeatureMatching
from keras_kd._src.losses.soft_targets import SoftTargets
from keras_kd._src.students.exits import FINAL


def be_your_own_teacher(
    exits, *, temperature=3.0, weight=0.3, hint=None, hint_weight=0.03
):
    """Be Your Own Teacher (BYOT): transfers from the last exit to all others.

    The gradients of the exits reach the early layers, which then learn better
    features. This improves the model's own output, at no cost in inference:

        student = students.Exits(model, {"stage1": head1, "stage2": head2})
        distiller = SelfDistiller(
            student,
            schemes.be_your_own_teacher(student, hint="stage3"),
            hard_weight=0.7,
        )

        loss = hard_weight * cross-entropy of all exits
            + weight * sum_exits T^2 * KL(p_final || p_exit)
            + hint_weight * sum_exits mean((F_hint - adapter(F_exit))^2)

    In the paper the labels have the weight 1 - `weight` at the early exits and
    1 at the last one; here `hard_weight` holds for all (`loss_weights` of
    `compile` can set each).

    Args:
        exits: a `students.Exits`.
        temperature: T, 3 in the authors' code.
        weight: weight of each transfer of logits, a number or a
            `LearningRateSchedule` over training steps; 0.3 in the authors'
            code.
        hint: a tap of `exits.model` whose features the features at the exits
            are trained to match, each through its own adapter; None for none.
        hint_weight: weight of each of these transfers; 0.03 in the authors'
            code.

    Returns:
        List of `Transfer`s, `final_to_<exit>` and `hint_to_<exit>`.

    Raises:
        ValueError: a number is out of its range.

    Example:
    >>> import keras
    >>> import keras_kd as kd
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, name="hidden"),
    ...     keras.layers.Dense(3),
    ... ])
    >>> student = kd.students.Exits(model, {"hidden": keras.layers.Dense(3)})
    >>> [transfer.name for transfer in be_your_own_teacher(student)]
    ['final_to_hidden']

    Reference: Zhang et al., 2019, "Be Your Own Teacher: Improve the
    Performance of Convolutional Neural Networks via Self Distillation",
    arXiv 1905.08094.
    """
    taps = [tap.text for tap in exits.taps]
    transfers = [
        Transfer(
            SoftTargets(temperature=temperature),
            teacher=f"[{FINAL}]",
            student=f"[{tap}]",
            weight=weight,
            name=f"{FINAL}_to_{_in_logs(tap)}",
        )
        for tap in taps
    ]
    if hint is None:
        return transfers
    return transfers + [
        Transfer(
            FeatureMatching(),
            teacher=f"model/{hint}",
            student=f"model/{tap}",
            adapter=FeatureAdapter(),
            weight=hint_weight,
            name=f"hint_to_{_in_logs(tap)}",
        )
        for tap in taps
    ]


def _in_logs(tap):
    return tap.replace("/", "_").replace(":", "_")

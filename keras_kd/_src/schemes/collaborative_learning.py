"""KDCL: one target, made of all peers' predictions, teaches each of them."""

from keras_kd._src.distillation.transfer import Transfer
from keras_kd._src.losses.collaborative_targets import CollaborativeTargets


def collaborative_learning(
    peers, *, combine="min_logit", temperature=2.0, weight=1.0
):
    """Collaborative learning (KDCL): all peers' logits make one target for all.

    Where peers differ much in size, a small one's predictions are of little use
    to a large one (`schemes.mutual_learning`); the target here is at least as
    good as the best of them:

        student = students.peers({"small": small, "large": large})
        distiller = SelfDistiller(
            student, schemes.collaborative_learning(student)
        )

        loss = cross-entropy of each peer
            + weight * sum_peers T^2 * KL(target || p_peer)

    Args:
        peers: the model that `students.peers` made.
        combine: how the target is made, see `losses.CollaborativeTargets`.
        temperature: T.
        weight: of the transfer, a number or a `LearningRateSchedule` over
            training steps; 1 in the paper.

    Returns:
        List of one `Transfer`, `collaborative_targets`.

    Raises:
        ValueError: a number is out of its range, `combine` is not known.

    Example:
    >>> import keras
    >>> import keras_kd as kd
    >>> student = kd.students.peers({
    ...     key: keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    ...     for key in ("small", "large")
    ... })
    >>> [transfer.name for transfer in collaborative_learning(student)]
    ['collaborative_targets']

    Reference: Guo et al., CVPR 2020, "Online Knowledge Distillation via
    Collaborative Learning".
    """
    taps = [f"[{key}]" for key in peers.output]
    loss = CollaborativeTargets(combine, temperature)
    return [Transfer(loss, teacher=taps, student=taps, weight=weight)]

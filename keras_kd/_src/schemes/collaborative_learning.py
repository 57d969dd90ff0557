"""KDCL: all peers learn from one target made of their predictions."""

from keras_kd._src.distillation.transfer import Transfer
from keras_kd._src.losses.collaborative_targets import CollaborativeTargets


def collaborative_learning(
    peers, *, combine="min_logit", temperature=2.0, weight=1.0
):
    """Collaborative learning (KDCL): one target from the logits of all peers.

    If peers differ much in size, the predictions of a small one are of little
    use to a large one, which learns from them in `schemes.mutual_learning`.
    Here all learn from one target. By default its cross-entropy is at most
    that of the best peer:

        student = students.peers({"small": small, "large": large})
        distiller = SelfDistiller(
            student, schemes.collaborative_learning(student)
        )

        loss = cross-entropy of each peer
            + weight * sum_peers T^2 * KL(target || p_peer)

    Args:
        peers: the model that `students.peers` made.
        combine: how the target is made, see `losses.CollaborativeTargets`.
        temperature: T, positive.
        weight: weight of the transfer, a number or a `LearningRateSchedule`
            over training steps; 1 in the paper.

    Returns:
        List of one `Transfer`, `collaborative_targets`.

    Raises:
        ValueError: a number is out of range, or `combine` is unknown.

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

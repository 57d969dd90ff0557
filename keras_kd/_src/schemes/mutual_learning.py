"""DML: each peer learns from all others."""

from keras_kd._src.arguments import number
from keras_kd._src.distillation.transfer import Transfer
from keras_kd._src.losses.soft_targets import SoftTargets


def mutual_learning(peers, *, temperature=1.0, weight=1.0):
    """Deep mutual learning (DML): transfers between any number of peers.

    For training without a teacher. The peers may be of any size: each learns
    from the labels, and from the predictions of every other peer for the same
    batch.

        student = students.peers({"small": small, "large": large})
        distiller = SelfDistiller(student, schemes.mutual_learning(student))

        loss of peer i = cross-entropy with the labels
            + weight / (peers - 1) * sum_{j != i} T^2 * KL(p_j || p_i)

    The authors update one peer after the other, each against the predictions
    of those that are already updated; here all peers are updated at once. To
    train all peers on one target made of their predictions, see
    `schemes.collaborative_learning`.

    Args:
        peers: the model that `students.peers` made.
        temperature: T, positive; 1 in the paper.
        weight: weight of the terms of all other peers together; 1 in the
            paper.

    Returns:
        List of `Transfer`s, one for each ordered pair: `<from>_to_<to>`.

    Raises:
        ValueError: a number is out of range.

    Example:
    >>> import keras
    >>> import keras_kd as kd
    >>> student = kd.students.peers({
    ...     key: keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    ...     for key in ("small", "large")
    ... })
    >>> [transfer.name for transfer in mutual_learning(student)]
    ['small_to_large', 'large_to_small']

    Reference: Zhang et al., 2018, "Deep Mutual Learning", arXiv 1706.00384.
    """
    weight = number(weight, "weight", least=0)
    keys = list(peers.output)
    return [
        Transfer(
            SoftTargets(temperature=temperature),
            teacher=f"[{teacher}]",
            student=f"[{student}]",
            weight=weight / (len(keys) - 1),
            name=f"{teacher}_to_{student}",
        )
        for teacher in keys
        for student in keys
        if teacher != student
    ]

"""Losses of students without a teacher: collaborative, and past predictions."""

import keras
import numpy as np
import pytest
from battery import every_check
from battery import random_features
from keras import ops
from support import numpy

import keras_kd as kd
from keras_kd.testing import LossCase
from keras_kd.testing import assert_close

CLASSES = 5
# One sample has no label.
LABELS = np.array([0, 3, -1, 4, 2, 0], "int32")


def log_softmax(logits):
    logits = logits - logits.max()
    return logits - np.log(np.exp(logits).sum())


def divergence(teacher, student):
    p, q = log_softmax(teacher), log_softmax(student)
    return float(np.sum(np.exp(p) * (p - q)))


def target_of(combine, peers, label):
    """One sample's target, from the paper's words, by loops."""
    if combine == "mean" or label < 0:
        return np.mean(peers, axis=0)
    if combine == "least_loss":
        losses = [-log_softmax(logits)[label] for logits in peers]
        return peers[int(np.argmin(losses))]
    return np.array(
        [
            min(logits[c] - logits[label] for logits in peers)
            for c in range(CLASSES)
        ]
    )


def reference(combine):
    def values(teacher, student, labels=None):
        result = []
        for index in range(len(student[0])):
            label = -1 if labels is None else labels[index]
            peers = [logits[index] for logits in teacher]
            target = target_of(combine, peers, label) / 2.0
            result.append(
                sum(
                    4.0 * divergence(target, logits[index] / 2.0)
                    for logits in student
                )
            )
        return np.array(result)

    return values


def case(combine, peers):
    made = random_features(*[(CLASSES,)] * (2 * peers), size=2.0)
    return LossCase(
        lambda **arguments: kd.losses.CollaborativeTargets(
            combine, 2.0, **arguments
        ),
        made[:peers],
        made[peers:],
        labels=None if combine == "mean" else LABELS,
        reference=reference(combine),
        identical=None,
    )


@keras.saving.register_keras_serializable(package="keras_kd_tests")
class IndexedPredictions(kd.losses.PastPredictions):
    """A case has labels only: here they are the sample indices."""

    def __init__(self, num_samples=12, num_classes=CLASSES, **kwargs):
        super().__init__(num_samples, num_classes, **kwargs)
        self.bank.rows.assign(ROWS)

    def __call__(self, teacher, student, sample_weight=None, *, labels):
        indices = ops.cast(labels, "int32")
        return super().__call__(
            teacher,
            student,
            sample_weight,
            sample_index=indices,
            labels=ops.take(ops.convert_to_tensor(TRUE), indices),
        )


TRUE = np.array([0, 3, 2, 4, 2, 0, 1, 1, 4, -1, 3, 2], "int32")
ROWS = np.random.default_rng(2).dirichlet(np.ones(CLASSES), 12)
# Three samples did not come yet, one of them without a label.
ROWS[[2, 5, 9]] = 0.0
INDICES = np.array([7, 2, 9, 0, 5, 8], "int32")


def past_reference(teacher, student, labels):
    result = []
    for logits, index in zip(student, labels):
        target = ROWS[index]
        if not target.any():
            target = np.eye(CLASSES)[TRUE[index]] * (TRUE[index] >= 0)
        q = log_softmax(logits)
        result.append(
            sum(p * (np.log(p) - q[c]) for c, p in enumerate(target) if p > 0)
        )
    return np.array(result)


CASES = {
    **{
        f"collaborative-{combine}-{peers}": case(combine, peers)
        for combine in ("mean", "least_loss", "min_logit")
        for peers in (2, 3)
    },
    "past_predictions": LossCase(
        IndexedPredictions,
        *random_features((CLASSES,), (CLASSES,), size=2.0),
        labels=INDICES,
        reference=past_reference,
        identical=None,
    ),
}


@every_check(CASES)
def test_loss(case, check):
    check(case)


@pytest.mark.parametrize("combine", ["min_logit", "least_loss"])
def test_the_target_is_no_worse_than_the_best_peer(combine):
    """Of each sample, in its cross-entropy with the label."""
    peers = random_features((CLASSES,), (CLASSES,), (CLASSES,), size=2.0)
    labels = np.array([0, 3, 1, 4, 2, 0], "int32")
    best = np.min(
        [
            [-log_softmax(each)[c] for each, c in zip(peer, labels)]
            for peer in peers
        ],
        axis=0,
    )
    # The gradient is the student's probabilities less the target's.
    even = [np.zeros_like(peer) for peer in peers]
    loss = kd.losses.CollaborativeTargets(combine, 1.0, reduction="sum")
    case = LossCase(None, peers, even, labels)
    _, slopes = case.value_and_gradient(loss)
    target = 1 / CLASSES - slopes[0].astype("float64")
    losses = -np.log(target[np.arange(6), labels])
    assert np.all(losses <= best + 1e-6)


def write(bank, rows, indices, weights):
    bank.write(
        ops.convert_to_tensor(np.array(rows, "float32")),
        ops.convert_to_tensor(np.array(indices, "int32")),
        ops.convert_to_tensor(np.array(weights, "float32")),
    )
    return numpy(bank.rows.value)


def test_the_bank_keeps_one_row_a_sample():
    bank = kd.layers.PredictionBank(4, 2)
    rows = write(
        bank, [[0.2, 0.8], [0.6, 0.4], [1.0, 0.0]], [1, 1, 3], [1, 1, 0]
    )
    # An index that came twice holds the mean; one of weight 0 nothing.
    expected = np.array([[0, 0], [0.4, 0.6], [0, 0], [0, 0]])
    assert_close(rows, expected, 1e-6)
    rows = write(bank, [[0.5, 0.5], [0.9, 0.1]], [1, 1], [0, 2])
    assert_close(rows[1], np.array([0.9, 0.1]), 1e-6)


def test_only_training_writes():
    loss = kd.losses.PastPredictions(4, 2)
    logits = ops.convert_to_tensor([[1.0, 3.0]])
    context = {"sample_index": np.array([2]), "labels": np.array([0])}
    loss(logits, logits, **context)
    assert not numpy(loss.bank.rows.value).any()
    loss(logits, logits, training=True, **context)
    assert_close(
        numpy(loss.bank.rows.value)[2],
        np.exp(log_softmax(np.array([1, 3.0]))),
        1e-6,
    )


@pytest.mark.one_backend
@pytest.mark.parametrize("missing", ["labels", "sample_index"])
def test_what_is_missing_is_named(missing):
    loss = kd.losses.PastPredictions(4, 2)
    context = {"sample_index": np.array([2]), "labels": np.array([0])}
    del context[missing]
    with pytest.raises(ValueError, match=f"needs `{missing}`"):
        loss(np.ones((1, 2)), np.ones((1, 2)), **context)


@pytest.mark.one_backend
def test_sizes_are_checked():
    with pytest.raises(ValueError, match="num_samples"):
        kd.losses.PastPredictions(0, 2)
    with pytest.raises(ValueError, match="num_classes"):
        kd.losses.PastPredictions(4, 1)
    with pytest.raises(ValueError, match="same classes on both sides"):
        kd.losses.CollaborativeTargets()(
            [np.ones((1, 2)), np.ones((1, 3))],
            [np.ones((1, 2)), np.ones((1, 3))],
            labels=np.array([0]),
        )

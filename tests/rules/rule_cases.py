"""What the tests of rules share: inputs, and the rules' values by NumPy."""

import numpy as np
from keras import ops

import keras_kd as kd
from keras_kd.rules import apply_rules

TEACHER = np.array(
    [
        [2.0, 1.0, -1.0],
        [0.1, 0.0, 0.05],
        [0.0, 9.0, -9.0],
        [1.0, 1.0, 0.0],
        [-3.0, 0.5, 2.0],
        [0.7, 0.2, 0.4],
    ]
)
STUDENT = np.array(
    [
        [0.5, 1.5, -0.5],
        [1.0, 0.2, -0.3],
        [0.1, 2.0, -1.0],
        [3.0, -1.0, 0.0],
        [-0.2, 0.3, 0.1],
        [0.0, 0.6, -2.0],
    ]
)
# The third has no label, the fourth is absent.
LABELS = np.array([0, 2, -1, 1, 2, 0], "int32")
WEIGHT = np.array([1.0, 0.5, 2.0, 0.0, 1.0, 3.0])


def rule_inputs(
    student=STUDENT, features=None, training=False, dtype="float32"
):
    features = features or {}
    return kd.rules.RuleInputs(
        ops.convert_to_tensor(TEACHER, dtype),
        ops.convert_to_tensor(student, dtype),
        ops.convert_to_tensor(WEIGHT, "float32"),
        LABELS,
        teacher_features={
            tap: ops.convert_to_tensor(feature, dtype)
            for tap, feature in features.items()
        },
        training=training,
    )


def applied(rule, **kwargs):
    return apply_rules([rule], rule_inputs(**kwargs))


def weight_of(rule, **kwargs):
    return ops.convert_to_numpy(applied(rule, **kwargs).sample_weight)


def soft_loss(inputs, temperature=2.0):
    """The soft targets' value of what a rule returned."""
    context = {}
    if inputs.temperature is not None:
        context = {"temperature": inputs.temperature}
    return kd.losses.SoftTargets(temperature)(*inputs[:3], **context)


def loss_of(rule, **kwargs):
    """The soft targets' value as a function of the student's logits."""

    def value(student):
        inputs = rule_inputs(**kwargs)._replace(student_logits=student)
        return soft_loss(apply_rules([rule], inputs))

    return value


# --- NumPy --------------------------------------------------------------------


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def entropy(p):
    return -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=-1)


def normalized_entropy(logits, temperature=1.0):
    return entropy(softmax(logits / temperature)) / np.log(logits.shape[-1])


def cross_entropy(logits, labels=LABELS):
    """With the labels; NaN where there is none."""
    p = softmax(logits)
    return np.array(
        [-np.log(p[i, y]) if y >= 0 else np.nan for i, y in enumerate(labels)]
    )


def by_loss(teacher=TEACHER, student=STUDENT, labels=LABELS):
    ratio = cross_entropy(student, labels) / cross_entropy(teacher, labels)
    return np.where(labels < 0, 1.0, 1 - np.exp(-ratio))


def by_difficulty(gamma, student=STUDENT, labels=LABELS):
    right = np.exp(-cross_entropy(student, labels))
    return np.where(labels < 0, 1.0, (1 - right) ** gamma)


def by_votes(members):
    choices = np.stack([member.argmax(axis=-1) for member in members])
    counts = [np.bincount(column).max() for column in choices.T]
    return np.array(counts) / len(members)


def soft_targets(teacher, student, weight, temperature):
    temperature = np.broadcast_to(temperature, (len(teacher),))[:, None]
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    values = np.sum(p * (np.log(p) - np.log(q)), axis=-1)
    values = temperature[:, 0] ** 2 * values
    return np.sum(weight * values) / np.sum(weight)


def easiest(share, hardness, ranked):
    """By a sorted list, one sample after another."""
    order = sorted(np.flatnonzero(ranked), key=lambda i: hardness[i])
    kept = order[: max(1, int(np.ceil(share * len(order) - 1e-3)))]
    dropped = [i for i in order if hardness[i] > hardness[kept[-1]]]
    return np.array([0.0 if i in dropped else 1.0 for i in range(len(ranked))])

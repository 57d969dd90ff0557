"""What the tests of rules share: lessons, and their NumPy counterparts."""

import numpy as np
from keras import ops

import keras_kd as kd
from keras_kd._src.rules.rule_inputs import loss_after_rules
from keras_kd._src.rules.rule_inputs import mended

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


def lesson(student=STUDENT, views=None, training=False, dtype="float32"):
    views = views or {}
    return kd.rules.RuleInputs(
        ops.convert_to_tensor(TEACHER, dtype),
        ops.convert_to_tensor(student, dtype),
        ops.convert_to_tensor(WEIGHT, "float32"),
        LABELS,
        teacher_features={
            text: ops.convert_to_tensor(view, dtype)
            for text, view in views.items()
        },
        training=training,
    )


def mend(rule, **kwargs):
    return mended([rule], lesson(**kwargs))


def weight_of(rule, **kwargs):
    return ops.convert_to_numpy(mend(rule, **kwargs).sample_weight)


def loss_of(rule, temperature=2.0, **kwargs):
    """The soft targets' value as a function of the student's logits."""
    loss = kd.losses.SoftTargets(temperature)

    def value(student):
        given = lesson(**kwargs)._replace(student_logits=student)
        return loss_after_rules(loss, [rule], given, {})

    return value


# --- NumPy --------------------------------------------------------------------


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def entropy(p):
    return -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=-1)


def cross_entropy(logits):
    """With the labels; NaN where there is none."""
    p = softmax(logits)
    return np.array(
        [-np.log(p[i, y]) if y >= 0 else np.nan for i, y in enumerate(LABELS)]
    )


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

"""Samples near the decision boundary of any classifier, by bisection."""

import numpy as np
from keras import ops

from keras_kd._src.arguments import integer


def boundary_samples(predict, x, *, steps=10, seed=0):
    """Samples on both sides of a teacher's decision boundary, by bisection.

    For teachers without gradients: a random forest, a remote API, any function.
    Samples near the boundary between classes tell most about a classifier, but
    random rows are rarely there. Each row is paired with a random row of
    another class, and the line between them is bisected towards the point where
    the class changes:

        m = (a + b) / 2;  a = m  if class(m) = class(a),  else  b = m

    After `steps` steps the two are `2 ** -steps` times as far apart. The
    teacher is called `steps + 1` times with all rows. Train on these samples
    together with the rows that they were made from: near the boundary alone
    there are no samples on which the teacher is confident.

    Args:
        predict: function from rows `(n, ...)`, a NumPy array, to scores of
            classes `(n, classes)`, such as a scikit-learn classifier's
            `predict_proba`, a `FunctionTeacher` or another Keras model.
        x: the rows to begin with, shape `(samples, ...)`, of two or more
            classes, for example from `noise`; integers become float32.
        steps: integer, how often the lines are bisected.
        seed: integer, the seed of the random pairs.

    Returns:
        NumPy array of shape `(2 * samples, ...)`: row `i` is on the side of
        `x[i]`, and row `samples + i` is the nearest one found on the other
        side.

    Raises:
        ValueError: `predict` doesn't return finite scores of shape
            `(n, classes)`, or all rows are of one class.

    Example:
    >>> def predict(x):
    ...     return np.stack([x[:, 0], 0.3 - x[:, 0]], axis=-1)
    >>> x = np.array([[0.0], [1.0]])
    >>> pairs = boundary_samples(predict, x, steps=20)
    >>> pairs.round(4).tolist()
    [[0.15], [0.15], [0.15], [0.15]]

    Reference: distillation with samples at the boundary is from Heo et al.,
    2019, "Knowledge Distillation with Adversarial Samples Supporting Decision
    Boundary", arXiv 1805.05532, who find them by gradients. The line search
    between two samples, with a teacher that is only a function, is from Tramèr
    et al., 2016, "Stealing Machine Learning Models via Prediction APIs", arXiv
    1609.02943.
    """
    x = np.asarray(x)
    x = x if np.issubdtype(x.dtype, np.floating) else x.astype("float32")
    steps = integer(steps, "steps")
    classes = _classes_of(predict, x)
    own, other = x, x[_partners(classes, np.random.default_rng(seed))]
    for _ in range(steps):
        middle = (own + other) / 2
        same = _classes_of(predict, middle) == classes
        same = same.reshape(-1, *[1] * (x.ndim - 1))
        own = np.where(same, middle, own)
        other = np.where(same, other, middle)
    return np.concatenate([own, other])


def _partners(classes, random):
    """For each row, the index of a random row of another class."""
    if len(np.unique(classes)) < 2:
        raise ValueError(
            "A boundary lies between rows of two classes. Received: "
            f"{len(classes)} rows that are all of class {classes[:1]}. Give "
            "more rows, of a wider range, or some of each class."
        )
    partners = np.empty(len(classes), int)
    for each in np.unique(classes):
        (others,) = np.nonzero(classes != each)
        mine = classes == each
        partners[mine] = random.choice(others, mine.sum())
    return partners


def _classes_of(predict, x):
    scores = ops.convert_to_numpy(predict(x))
    good = scores.ndim == 2 and len(scores) == len(x) and scores.shape[1] > 1
    if not good or not np.isfinite(scores).all():
        raise ValueError(
            "`predict` must return finite scores of two or more classes, of "
            f"shape ({len(x)}, classes). Received: an array of shape "
            f"{scores.shape} and type {scores.dtype}. For a single probability "
            "p, return the columns 1 - p and p."
        )
    return scores.argmax(axis=-1)

"""What a scikit-learn classifier is to a `FunctionTeacher`."""

import numpy as np


class Probabilities:
    """A classifier's probabilities, of samples of any shape.

    Example:
    >>> class Coin:
    ...     def predict_proba(self, x):
    ...         return np.full((len(x), 2), 0.5)
    >>> Probabilities(Coin())(np.ones((1, 4, 4))).tolist()
    [[0.5, 0.5]]
    """

    def __init__(self, classifier):
        self.classifier = classifier
        self.__name__ = f"{type(classifier).__name__}.predict_proba"

    def __call__(self, array):
        return self.classifier.predict_proba(array.reshape(len(array), -1))


def classes_of(classifier, numbers):
    """The class number of each column: `numbers`, or the classifier's own.

    Raises:
        ValueError: it gives no probabilities, is not fitted, has several
            outputs, or its classes are no integers.
    """
    known = getattr(classifier, "classes_", None)
    kind = type(classifier).__name__
    # scikit-learn hides predict_proba where the settings exclude it.
    if not hasattr(classifier, "predict_proba") or known is None:
        raise ValueError(
            "Argument `classifier` must be a fitted scikit-learn classifier "
            f"that gives probabilities. Received: {classifier!r}, without "
            "`predict_proba` or `classes_`. Fit it, or calibrate it."
        )
    if isinstance(known, list):
        raise ValueError(
            "The classifier must have one output. Received: "
            f"{kind} with {len(known)} outputs."
        )
    if numbers is None and np.asarray(known).dtype.kind not in "iu":
        raise ValueError(
            f"The classes of {kind} are no integers, so the student's "
            f"numbering is not known. Received: {list(known[:5])}. Give "
            "`classes=`, the student's number of each, in this order."
        )
    return known if numbers is None else numbers

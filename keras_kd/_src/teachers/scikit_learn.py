"""scikit-learn's models as functions of arrays, for `FunctionTeacher`."""

import numpy as np


class Probabilities:
    """A classifier's probabilities, for samples of any shape."""

    def __init__(self, classifier):
        self.classifier = classifier
        self.__name__ = f"{type(classifier).__name__}.predict_proba"

    def __call__(self, array):
        return self.classifier.predict_proba(array.reshape(len(array), -1))


class Targets:
    """A regressor's predictions, for samples of any shape."""

    def __init__(self, regressor):
        classes = getattr(regressor, "classes_", None)
        if classes is not None or not hasattr(regressor, "predict"):
            raise ValueError(
                "Argument `regressor` must be a fitted scikit-learn regressor, "
                f"whose `predict` gives numbers. Received: {regressor!r}. For "
                "a classifier use `FunctionTeacher.of_classifier`."
            )
        self.regressor = regressor
        self.__name__ = f"{type(regressor).__name__}.predict"

    def __call__(self, array):
        return self.regressor.predict(array.reshape(len(array), -1))


def classes_of(classifier, numbers):
    """The class number of each column: `numbers`, or the classifier's own."""
    known = getattr(classifier, "classes_", None)
    kind = type(classifier).__name__
    # scikit-learn hides predict_proba if the settings exclude it.
    if not hasattr(classifier, "predict_proba") or known is None:
        raise ValueError(
            "Argument `classifier` must be a fitted scikit-learn classifier "
            f"that gives probabilities. Received: {classifier!r}, without "
            "`predict_proba` or `classes_`. Fit it, or calibrate it; for a "
            "regressor use `FunctionTeacher.of_regressor`."
        )
    if isinstance(known, list):
        raise ValueError(
            "The classifier must have one output. Received: "
            f"{kind} with {len(known)} outputs."
        )
    if numbers is None and np.asarray(known).dtype.kind not in "iu":
        raise ValueError(
            f"The classes of {kind} are not integers, so the student's "
            f"numbering is not known. Received: {list(known[:5])}. Give "
            "`classes`, the student's number of each class, in this order."
        )
    return known if numbers is None else numbers

"""The quickstart's experiment: a student with few labels, and a teacher."""

import keras
import numpy as np
from keras import layers

from keras_kd._src.compare.compare import compare
from keras_kd._src.compare.ways import ALONE
from keras_kd._src.compare.ways import DISTILLED
from keras_kd._src.compare.ways import TEACHER
from keras_kd._src.compare.ways import Way

FEW, ALL = 50, 1000  # Numbers of labels.
ALL_LABELS = f"{ALONE}, {ALL} labels"
WHY = {
    TEACHER: f"a large network, trained on {ALL} labels.",
    ALONE: f"a small network, trained on {FEW} labels: the baseline.",
    DISTILLED: (
        f"the same, plus the teacher's soft targets for all {ALL} images."
    ),
    ALL_LABELS: "the small network, trained on all labels, to compare with.",
}


def load_data():
    """1000 digits for training, 500 for testing, with all classes balanced.

    Learning rates, epochs and models were chosen on the other 297.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16.0).astype("float32")[..., None]
    labels = digits.target.astype("int32")
    train, test = split(labels, np.arange(len(labels)), 500, seed=0)
    train, _validation = split(labels, train, 297, seed=0)
    return (images[train], labels[train]), (images[test], labels[test])


def split(labels, indices, size, seed):
    """Splits indices in two, with the same share of each class in both."""
    from sklearn.model_selection import train_test_split

    return train_test_split(
        indices, test_size=size, stratify=labels[indices], random_state=seed
    )


def build_teacher():
    """A convolutional network of 85,066 parameters."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )


def build_student():
    """A dense network of 2,410 parameters."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10),
        ]
    )


def settings(learning_rate):
    """A function for `compile`; an image without a label has the label -1."""
    return lambda: {
        "optimizer": keras.optimizers.Adam(learning_rate),
        "loss": keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=-1
        ),
        "metrics": ["accuracy"],
    }


def run(train, test, **arguments):
    """Compares the student alone, distilled, and with all labels.

    Args:
        train: images and labels for training.
        test: images and labels for testing.
        arguments: further arguments of `keras_kd.compare`.

    Returns:
        A `ComparisonReport`.
    """
    images, labels = train

    def few_labels(seed):
        _, few = split(labels, np.arange(len(labels)), FEW, seed)
        return few

    def partly_labeled(seed):
        few, partly = few_labels(seed), np.full_like(labels, -1)
        partly[few] = labels[few]
        return images, partly

    def labeled_alone(seed):
        # Repeated, so that an epoch has as many steps as the other ways.
        few = np.tile(few_labels(seed), len(labels) // FEW)
        return images[few], labels[few]

    own = {
        TEACHER: {"compile": settings(1e-3)},
        ALONE: {"train_data": labeled_alone},
        # Soft targets at temperature 4 have weight 0.9, the labels 0.1.
        DISTILLED: {"train_data": partly_labeled},
        ALL_LABELS: {},
    }
    return compare(
        build_teacher,
        build_student,
        train,
        test,
        compile=settings(1e-2),
        batch_size=50,
        validation_data=test,  # Only for the learning curves.
        ways={way: Way(description=WHY[way], **own[way]) for way in own},
        **arguments,
    )

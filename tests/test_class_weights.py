"""Class weights beside a sample index count as they do without."""

import keras
import numpy as np
import pytest
from support import cross_entropy

import keras_kd as kd

random = np.random.default_rng(0)
X = random.normal(size=(24, 4)).astype("float32")
Y = random.integers(0, 3, 24)
INDEXED = {"labels": Y, "sample_index": np.arange(24)}
CLASS_WEIGHT = {0: 1.0, 1: 5.0, 2: 0.5}


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, number):
        part = slice(8 * number, 8 * number + 8)
        return X[part], {key: each[part] for key, each in INDEXED.items()}


def distiller():
    keras.utils.set_random_seed(0)
    models = [
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        for _ in range(2)
    ]
    model = kd.Distiller(*models)
    model.compile(keras.optimizers.SGD(0.1), cross_entropy())
    return model


def logs_of(x, y=None, class_weight=CLASS_WEIGHT, **data):
    history = distiller().fit(
        x,
        y,
        batch_size=None if y is None else 8,
        shuffle=False,
        class_weight=class_weight,
        verbose=0,
        **data,
    )
    return {name: value for name, (value,) in history.history.items()}


def test_arrays_and_data_sets():
    split = {"validation_split": 1 / 3}
    expected = logs_of(X, Y, **split)
    assert logs_of(X, INDEXED, **split) == pytest.approx(expected, rel=1e-5)
    # Labels in a column, as Keras takes them, too.
    column = {**INDEXED, "labels": Y[:, None]}
    expected = logs_of(X, Y)
    assert logs_of(X, column) == pytest.approx(expected, rel=1e-5)
    assert logs_of(Batches()) == pytest.approx(expected, rel=1e-5)
    unweighted = logs_of(X, INDEXED, class_weight=None)
    assert unweighted["loss"] != pytest.approx(expected["loss"], rel=1e-2)


def test_a_tf_data_set():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((X, INDEXED)).batch(8)
    expected = logs_of(X, Y)
    assert logs_of(data) == pytest.approx(expected, rel=1e-5)


def test_one_batch():
    logs = [
        distiller().train_on_batch(
            X, y, class_weight=CLASS_WEIGHT, return_dict=True
        )
        for y in (Y, INDEXED)
    ]
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)


def test_both_kinds_of_weights_are_refused():
    with pytest.raises(ValueError, match="class_weight"):
        distiller().fit(
            X,
            INDEXED,
            class_weight=CLASS_WEIGHT,
            sample_weight=np.ones(24),
            verbose=0,
        )

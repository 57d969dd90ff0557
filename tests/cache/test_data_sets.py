"""What `write` and `plan` take as a data set."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from tests.support import numpy

COUNT, BATCH = 40, 8


@pytest.fixture(scope="module")
def x():
    random = np.random.default_rng(0)
    return random.normal(size=(COUNT, 4)).astype("float32")


@pytest.fixture(scope="module")
def teacher():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def written(teacher, dataset, path, **arguments):
    outputs = kd.cache.Dense("float32")
    settings = dict(outputs=outputs, batch_size=BATCH, verbose=0, **arguments)
    kd.cache.write(teacher, dataset, path, **settings)
    return kd.cache.open(path)


def planned(teacher, dataset, **arguments):
    return kd.cache.plan(
        teacher, dataset, epochs=3, batch_size=BATCH, verbose=0, **arguments
    )


def assert_told(answers, expected):
    told = answers.views(np.arange(COUNT))["output"]
    np.testing.assert_allclose(told, expected, rtol=1e-5, atol=1e-6)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, order):
        super().__init__()
        self.x, self.order = x, order

    def __len__(self):
        return len(self.order) // BATCH

    def __getitem__(self, number):
        rows = self.order[number * BATCH : (number + 1) * BATCH]
        return self.x[rows], {"sample_index": rows}


def test_py_dataset(teacher, x, tmp_path):
    order = np.random.default_rng(1).permutation(COUNT)
    dataset = Batches(x, order)
    answers = written(teacher, dataset, tmp_path)
    assert_told(answers, numpy(teacher(x)))
    assert answers.join(dataset)[4][1]["sample_index"].tolist() == (
        order[32:].tolist()
    )
    assert planned(teacher, dataset).samples == COUNT

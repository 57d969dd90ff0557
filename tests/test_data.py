"""The same student from every kind of data pipeline."""

import os

import keras
import numpy as np
import pytest
from support import BACKEND
from support import cross_entropy
from support import data
from support import functional_model
from support import weights_of

import keras_kd as kd

BATCH = 8


def arrays(x, y, weight):
    return {"x": x, "y": y, "sample_weight": weight, "batch_size": BATCH}


def tf_data(x, y, weight):
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices((x, y, weight))
    return {"x": dataset.batch(BATCH)}


def torch_loader(x, y, weight):
    torch = pytest.importorskip("torch")
    tensors = [torch.as_tensor(array) for array in (x, y, weight)]
    dataset = torch.utils.data.TensorDataset(*tensors)
    return {"x": torch.utils.data.DataLoader(dataset, batch_size=BATCH)}


def py_dataset(x, y, weight):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return len(x) // BATCH

        def __getitem__(self, index):
            part = slice(index * BATCH, (index + 1) * BATCH)
            return x[part], y[part], weight[part]

    return {"x": Batches()}


def generator(x, y, weight):
    def batches():
        for start in range(0, len(x), BATCH):
            part = slice(start, start + BATCH)
            yield x[part], y[part], weight[part]

    return {"x": batches(), "steps_per_epoch": len(x) // BATCH}


def grain_dataset(x, y, weight):
    grain = pytest.importorskip("grain")
    dataset = grain.MapDataset.range(len(x)).map(
        lambda index: (x[index], y[index], weight[index])
    )
    return {"x": dataset.batch(BATCH), "steps_per_epoch": len(x) // BATCH}


X, Y = data()
WEIGHT = np.linspace(0.5, 1.5, len(X)).astype("float32")


def trained_student(pipeline):
    keras.utils.set_random_seed(0)
    distiller = kd.Distiller(
        functional_model(8, name="teacher"),
        functional_model(4, name="student"),
    )
    distiller.compile(keras.optimizers.SGD(0.05), cross_entropy())
    distiller.fit(**pipeline(X, Y, WEIGHT), shuffle=False, verbose=0)
    return weights_of(distiller.student)


@pytest.fixture(scope="module")
def reference():
    return trained_student(arrays)


@pytest.mark.parametrize(
    "pipeline",
    [arrays, tf_data, torch_loader, py_dataset, generator, grain_dataset],
)
def test_same_student_from_every_pipeline(pipeline, reference):
    for one, other in zip(reference, trained_student(pipeline), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_grain_builds_a_student():
    flat = [keras.layers.Flatten(), keras.layers.Dense(3)]
    student = keras.Sequential(flat)
    distiller = kd.Distiller(functional_model(8, name="teacher"), student)
    distiller.compile("sgd", cross_entropy())
    distiller.fit(**grain_dataset(X, Y, WEIGHT), shuffle=False, verbose=0)
    assert student.built


@pytest.mark.skipif(
    BACKEND != "tensorflow" or not os.environ.get("TFDS_DATA_DIR"),
    reason="reads MNIST from TFDS_DATA_DIR, on TensorFlow alone",
)
def test_mnist_through_tensorflow_datasets():
    tfds = pytest.importorskip("tensorflow_datasets")

    train = tfds.load("mnist", split="train[:256]", as_supervised=True)
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Flatten()(x)

    def model(width):
        hidden = keras.layers.Dense(width, activation="relu")(x)
        return keras.Model(inputs, keras.layers.Dense(10)(hidden))

    distiller = kd.Distiller(model(32), model(8))
    distiller.compile("adam", cross_entropy(), metrics=["accuracy"])
    history = distiller.fit(
        train.batch(64), epochs=2, shuffle=False, verbose=0
    ).history
    assert history["loss"][1] < history["loss"][0]

"""What `write`, `plan` and `open` refuse, before anything is written."""

import keras
import numpy as np
import pytest

import keras_kd as kd

X = np.ones((8, 4), "float32")


def a_teacher(classes=3):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(classes)])


def write(path, teacher=None, **arguments):
    kd.cache.write(teacher or a_teacher(), X, path, verbose=0, **arguments)


def refused_by_write(path, message, **arguments):
    with pytest.raises(ValueError, match=message):
        write(path, **arguments)
    assert not list(path.iterdir())


@pytest.mark.parametrize(
    "outputs, received",
    [
        ("float16", "outputs='float16'"),
        (kd.cache.TopK, r"outputs=<class .*TopK'>"),
        ({"": "float16"}, r"outputs=\{'': 'float16'\}"),
        ({"": kd.cache.Dense}, "class .*Dense"),
        ({}, r"outputs=\{\}"),
        ([kd.cache.Dense()], r"outputs=\[<"),
    ],
)
def test_outputs_that_are_no_encodings(outputs, received, tmp_path):
    message = f"`outputs` must be a way to store.*cache.Int8.*{received}"
    refused_by_write(tmp_path, message, outputs=outputs)
    if isinstance(outputs, (str, list)):  # To `plan` these are taps.
        return
    with pytest.raises(ValueError, match=message):
        kd.cache.plan(a_teacher(), X, epochs=3, outputs=outputs, verbose=0)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "8", True, None])
def test_batch_sizes_that_are_none(batch_size, tmp_path):
    message = f"`batch_size` must be a whole.*batch_size={batch_size!r}"
    refused_by_write(tmp_path, message, batch_size=batch_size)
    write(tmp_path, batch_size=np.int64(3))

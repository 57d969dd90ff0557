"""Sheets of samples, pixel by pixel, and those that `fit` writes."""

import importlib.util

import keras
import numpy as np
import pytest
from keras import layers
from support import numpy

from keras_kd import data_free


@pytest.mark.one_backend
def test_pixels_of_a_sheet():
    x = np.array([0.0, 1.0, 0.5, 0.2])[:, None, None, None]
    x = np.broadcast_to(x, (4, 1, 2, 1))
    sheet = data_free.sample_sheet(x, [2, 0, 2, 2], columns=2)
    blank = [255, 255]
    expected = [
        [255, 255, *blank, 255, 255],  # Class 0 has one sample, white.
        *[[255] * 6] * 2,
        [255] * 6,  # Class 1 has none.
        *[[255] * 6] * 2,
        # Two of the three of class 2: 0 and 0.5 of 255, rounded to even.
        [0, 0, *blank, 128, 128],
    ]
    np.testing.assert_array_equal(sheet[..., 0], expected)


@pytest.mark.one_backend
def test_range_scores_and_colors():
    x = np.zeros((2, 1, 1, 3)) + [-2.0, 0.0, 0.6]
    scores = np.array([[0.0, 1.0], [3.0, 1.0]])
    sheet = data_free.sample_sheet(
        x, scores, columns=1, value_range=(-1.0, 1.0)
    )
    assert sheet.shape == (4, 1, 3)
    assert sheet[0, 0].tolist() == sheet[3, 0].tolist() == [0, 128, 204]
    gray = data_free.sample_sheet(x[..., 0], scores, columns=1)
    assert gray.shape == (4, 1, 1)


@pytest.mark.one_backend
def test_channels_first():
    image = np.arange(12.0).reshape(1, 2, 2, 3)
    sheet = data_free.sample_sheet(image, [0], columns=1)
    try:
        keras.config.set_image_data_format("channels_first")
        first = data_free.sample_sheet(
            np.moveaxis(image, -1, 1), [0], columns=1
        )
    finally:
        keras.config.set_image_data_format("channels_last")
    np.testing.assert_array_equal(first, sheet)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("x", "classes", "told"),
    [
        (np.zeros((4, 5)), [0] * 4, r"shows images.*\(4, 5\)"),
        (np.zeros((4, 2, 2, 5)), [0] * 4, "1 or 3 channels"),
        (np.zeros((4, 2, 2)), [0] * 3, "4 class numbers"),
        (np.zeros((4, 2, 2)), [0.5] * 4, "float64"),
        (np.zeros((4, 2, 2)), [-1] * 4, "from 0 on"),
    ],
)
def test_errors_of_a_sheet(x, classes, told):
    with pytest.raises(ValueError, match=told):
        data_free.sample_sheet(x, classes)


def classifier(shape):
    return keras.Sequential(
        [keras.Input(shape), layers.Flatten(), layers.Dense(3)]
    )


def distiller_of(shape):
    generator = keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(int(np.prod(shape)), activation="sigmoid"),
            layers.Reshape(shape),
        ]
    )
    distiller = data_free.dfad(
        classifier(shape), classifier(shape), generator, student_steps=1
    )
    distiller.compile("sgd", generator_optimizer=keras.optimizers.SGD(1.0))
    return distiller


def test_picture_of_each_epoch(tmp_path):
    """The last one shows what the generator makes after `fit`."""
    pytest.importorskip("PIL")
    distiller = distiller_of((4, 4, 1))
    pictures = data_free.SamplePictures(
        tmp_path / "new", columns=3, samples=30, value_range=(0.0, 1.0), seed=5
    )
    distiller.fit(
        steps_per_epoch=1,
        epochs=2,
        batch_size=8,
        callbacks=[pictures],
        verbose=0,
    )
    files = sorted((tmp_path / "new").iterdir())
    assert [file.name for file in files] == ["epoch_0001.png", "epoch_0002.png"]
    first, last = (
        keras.utils.img_to_array(
            keras.utils.load_img(file, color_mode="grayscale"),
            data_format="channels_last",
        )
        for file in files
    )
    x = distiller.generate(30, seed=5)
    expected = data_free.sample_sheet(
        x, numpy(distiller.teacher(x)), columns=3, value_range=(0.0, 1.0)
    )
    assert expected.shape == (16, 16, 1)
    np.testing.assert_array_equal(last, expected)
    assert (first != last).any()


def test_errors_of_pictures_come_before_training(tmp_path, monkeypatch):
    pytest.importorskip("PIL")
    pictures = data_free.SamplePictures(tmp_path)
    with pytest.raises(ValueError, match="shows images"):
        distiller_of((6,)).fit(
            steps_per_epoch=1, batch_size=8, callbacks=[pictures], verbose=0
        )
    model = classifier((6,))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="a generator's samples"):
        model.fit(np.zeros((4, 6)), np.zeros((4, 3)), callbacks=[pictures])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install pillow"):
        data_free.SamplePictures(tmp_path)

"""KerasHub's tasks whose losses are their own, or whose outputs are maps."""

import keras
import numpy as np
import pytest
from support import numpy

import keras_kd as kd

keras_hub = pytest.importorskip("keras_hub")

import hub_models  # noqa: E402

CLASSES = 3


def boxes(images=2):
    """Images, and two boxes each, `(y, x, y, x)`."""
    x = np.random.default_rng(0).normal(size=(images, 64, 64, 3))
    corners = np.array([[4, 4, 30, 30], [20, 24, 60, 62]], "float32")
    y = {
        "boxes": np.tile(corners, (images, 1, 1)),
        "labels": np.tile(np.array([0, 2], "int32"), (images, 1)),
    }
    return x.astype("float32"), y


def test_a_detector_keeps_its_loss():
    x, y = boxes()
    teacher, student = hub_models.retinanet_pair(CLASSES)
    own = student.evaluate(x, y, batch_size=2, verbose=0, return_dict=True)
    transfers = [
        kd.Transfer(
            kd.losses.BinarySoftTargets(temperature=1.0),
            teacher="[cls_logits]",
            student="[cls_logits]",
            name="classes",
        ),
        kd.Transfer(
            kd.losses.FeatureMatching(),
            teacher="[bbox_regression]",
            student="[bbox_regression]",
            name="boxes",
        ),
    ]
    distiller = kd.Distiller(teacher, student, transfers, hard_weight=0.5)
    distiller.compile(keras.optimizers.SGD(1e-3))
    logs = distiller.evaluate(x, y, 2, 0, return_dict=True)
    np.testing.assert_allclose(logs["hard_loss"], 0.5 * own["loss"], rtol=1e-4)
    outputs = [
        numpy(model(x)["bbox_regression"]) for model in (teacher, student)
    ]
    expected = np.mean((outputs[0] - outputs[1]) ** 2)
    np.testing.assert_allclose(logs["boxes_loss"], expected, rtol=1e-3)
    assert logs["classes_loss"] > 0.0
    before = [numpy(w) for w in student.trainable_weights]
    distiller.fit(x, y, 2, 1, 0)
    after = [numpy(w) for w in student.trainable_weights]
    assert any(np.any(a != b) for a, b in zip(before, after))


def test_a_segmenter_of_images_of_any_size():
    teacher, student = hub_models.deeplab_pair(CLASSES)
    distiller = kd.Distiller(teacher, student, kd.losses.SoftTargets(4.0))
    distiller.compile("sgd", loss=None)
    history = distiller.fit(boxes()[0], None, 2, 2, 0).history
    assert history["loss"][1] < history["loss"][0]

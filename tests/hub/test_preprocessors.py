"""Tasks with their preprocessors: texts go in, as in the task's own `fit`."""

import keras
import numpy as np
import pytest
from support import cross_entropy
from support import numpy

import keras_kd as kd

keras_hub = pytest.importorskip("keras_hub")

import hub_models  # noqa: E402


def pair(lengths=(8, 8)):
    keras.utils.set_random_seed(0)
    teacher, student = hub_models.bert_pair()
    for model, length in zip((teacher, student), lengths):
        model.preprocessor = hub_models.bert_preprocessor(length)
    return teacher, student


def distilled(**arguments):
    transfer = kd.Transfer(kd.losses.LogitMatching(), weight=0.0)
    distiller = kd.Distiller(*pair(), transfer, hard_weight=1.0, **arguments)
    distiller.compile(keras.optimizers.SGD(0.1), cross_entropy())
    return distiller


# KerasHub makes a grain dataset of texts, of which Keras says this.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
def test_texts_train_as_in_the_tasks_own_fit():
    texts, labels = hub_models.texts()
    _, alone = pair()
    alone.compile(keras.optimizers.SGD(0.1), cross_entropy())
    alone.fit(texts, labels, batch_size=4, verbose=0)
    distiller = distilled()
    distiller.fit(texts, labels, 4, verbose=0, shuffle=False)
    for ours, theirs in zip(
        distiller.student.get_weights(), alone.get_weights()
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(
        distiller.predict(texts, verbose=0),
        alone.predict(texts, verbose=0),
        atol=1e-5,
    )


@pytest.mark.one_backend
def test_texts_are_diagnosed_as_they_are_trained_on():
    texts, labels = hub_models.texts()
    transfer = kd.Transfer(kd.losses.LogitMatching(), weight=100.0)
    distiller = kd.Distiller(*pair(lengths=(8, 4)), transfer)
    distiller.compile("sgd", cross_entropy())
    report = distiller.diagnose(texts, labels, batch_size=len(texts))
    logs = distiller.evaluate(texts, labels, len(texts), 0, return_dict=True)
    for check, key in (
        ("hard loss", "hard_loss"),
        ("term logit_matching", "logit_matching_loss"),
    ):
        value = report.of(check).figures["value"]
        assert value == pytest.approx(logs[key], rel=1e-4)


def test_teacher_and_student_each_have_their_own_tokens():
    texts, labels = hub_models.texts()
    teacher, student = pair(lengths=(8, 4))
    transfer = kd.Transfer(kd.losses.LogitMatching(), weight=100.0)
    distiller = kd.Distiller(teacher, student, transfer)
    distiller.compile("sgd", cross_entropy())
    logs = distiller.evaluate(texts, labels, 8, 0, return_dict=True)
    outputs = [
        numpy(model(model.preprocessor(texts))) for model in (teacher, student)
    ]
    expected = 100.0 * np.mean((outputs[0] - outputs[1]) ** 2)
    np.testing.assert_allclose(logs["logit_matching_loss"], expected, rtol=1e-3)
    history = distiller.fit(
        texts, labels, 4, 2, 0, validation_split=0.25
    ).history
    assert len(history["val_loss"]) == 2
    tensorflow = pytest.importorskip("tensorflow")
    data = tensorflow.data.Dataset.from_tensor_slices((texts, labels)).batch(8)
    again = distiller.evaluate(texts, labels, 8, 0, return_dict=True)
    mapped = distiller.evaluate(data, verbose=0, return_dict=True)
    for name in again:
        np.testing.assert_allclose(mapped[name], again[name], rtol=1e-4)


def test_inputs_that_are_preprocessed_already():
    distiller = distilled()
    texts, labels = hub_models.texts()
    x = distiller.student.preprocessor(texts)
    x = {name: numpy(value) for name, value in x.items()}
    logs = [
        distiller.evaluate(data, labels, verbose=0, return_dict=True)
        for data in (texts, x)
    ]
    np.testing.assert_allclose(logs[0]["loss"], logs[1]["loss"], rtol=1e-5)

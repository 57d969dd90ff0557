"""Chunks of positions: what can't be chunked is refused, with the reason."""

import types

import keras
import numpy as np
import pytest
from support import numpy

import keras_kd as kd

CLASSES = 9
TOKENS = np.random.default_rng(0).integers(CLASSES, size=(4, 7))


def language_model(units, head=None):
    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(CLASSES, units)(tokens)
    return keras.Model(tokens, (head or keras.layers.Dense(CLASSES))(x))


def distiller(transfers=None, *, student=None, **arguments):
    student = student or language_model(4)
    return kd.Distiller(
        language_model(8), student, transfers, chunk_size=4, **arguments
    )


def test_a_model_that_ends_in_a_softmax():
    softmax = keras.layers.Dense(CLASSES, activation="softmax")
    with pytest.raises(ValueError, match="student can't be computed in chunks"):
        distiller(student=language_model(4, softmax))


def test_a_head_that_is_called_twice():
    head = keras.layers.Dense(CLASSES)
    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(CLASSES, CLASSES)(tokens)
    student = keras.Model(tokens, head(head(x)))
    with pytest.raises(ValueError, match="more than once"):
        distiller(student=student)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "loss",
    [
        kd.losses.SimilarityPreserving(),
        kd.losses.DIST(),
        kd.losses.UniversalLogit(),
    ],
)
def test_losses_that_compare_samples(loss):
    with pytest.raises(ValueError, match="compares samples or positions"):
        distiller(loss)


class Bytes:
    """A tokenizer as KerasHub's `ByteTokenizer`."""

    def tokenize(self, text):
        return list(text.encode())

    def id_to_token(self, id):
        return chr(id)

    def vocabulary_size(self):
        return 256


@pytest.mark.one_backend
def test_padded_vocabularies_are_compared_where_both_have_tokens():
    models = [language_model(8, keras.layers.Dense(n)) for n in (260, 256)]
    for model, size in zip(models, (260, 256)):
        model.preprocessor = types.SimpleNamespace(tokenizer=Bytes())
        model.backbone = types.SimpleNamespace(vocabulary_size=size)
    distiller = kd.schemes.causal_lm(*models, chunk_size=4)
    distiller.compile("sgd", loss=None)
    found = distiller.evaluate(TOKENS[:, :-1], verbose=0, return_dict=True)
    logits = [model(TOKENS[:, :-1])[..., :256] for model in models]
    expected = 0.5 * kd.losses.SoftTargets(temperature=1.0)(*logits)
    assert found["soft_targets_loss"] == pytest.approx(
        float(numpy(expected)), 1e-5
    )


@pytest.mark.one_backend
def test_a_transfer_in_the_place_of_the_loss():
    transfer = kd.Transfer(kd.losses.ReverseKL(), weight=3.0, ignore_class=-1)
    models = language_model(8), language_model(4)
    assert kd.schemes.causal_lm(*models, transfer).transfers == [transfer]


@pytest.mark.one_backend
def test_rules():
    transfer = kd.Transfer(
        kd.losses.SoftTargets(), rules=[kd.rules.DropWrong()]
    )
    with pytest.raises(ValueError, match="has rules"):
        distiller(transfer)


@pytest.mark.one_backend
def test_a_student_with_a_loss_of_its_own():
    class Own(keras.Model):
        def compute_loss(self, *args, **kwargs):
            return 1.0

    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(CLASSES, 4)(tokens)
    student = Own(tokens, keras.layers.Dense(CLASSES)(x))
    with pytest.raises(ValueError, match="its own loss"):
        distiller(student=student)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "loss, error",
    [
        ("sparse_categorical_crossentropy", "one `keras.losses.Loss`"),
        (
            keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, reduction=None
            ),
            "must have a reduction",
        ),
    ],
)
def test_compiled_losses(loss, error):
    model = distiller()
    model.compile("sgd", loss)
    with pytest.raises(ValueError, match=error):
        model.fit(TOKENS[:, :-1], TOKENS[:, 1:], verbose=0)


@pytest.mark.one_backend
def test_a_chunk_size_is_a_positive_integer():
    with pytest.raises(ValueError, match="chunk_size"):
        kd.Distiller(language_model(8), language_model(4), chunk_size=0)


def test_saved_and_loaded(tmp_path):
    x, y = TOKENS[:, :-1], TOKENS[:, 1:]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    teacher = language_model(8)
    model = kd.Distiller(teacher, language_model(4), chunk_size=4)
    model.compile("adam", loss, weighted_metrics=[kd.metrics.Perplexity()])
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "state.keras")
    loaded = keras.saving.load_model(tmp_path / "state.keras")
    loaded.set_teacher(teacher)
    assert loaded.chunk_size == 4
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    found = loaded.evaluate(x, y, verbose=0, return_dict=True)
    assert found == pytest.approx(expected, rel=1e-6)

"""Caches of a language model: k classes of each token, and one for the rest."""

import keras
import numpy as np
import pytest
from support import numpy

import keras_kd as kd

WORDS, LENGTH, TEXTS, K = 12, 5, 8, 3


def model(seed):
    keras.utils.set_random_seed(seed)
    made = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(WORDS, 4, name="embedding"),
            keras.layers.Dense(WORDS, name="head"),
        ]
    )
    random = np.random.default_rng(seed)
    made.set_weights([random.normal(size=w.shape) for w in made.get_weights()])
    return made


def data(length=LENGTH):
    """Tokens, and weights of 0 at the padding."""
    random = np.random.default_rng(0)
    tokens = np.zeros((TEXTS, length), "int32")
    tokens[:, :LENGTH] = random.integers(1, WORDS, (TEXTS, LENGTH))
    lengths = np.array([5, 3, 4, 1, 5, 2, 5, 4])[:, None]
    weights = (np.arange(length) < lengths).astype("float32")
    return tokens, weights


def written(path, tokens):
    outputs = kd.cache.TopK(K, temperature=1.0)
    kd.cache.write(
        model(0), tokens, path, outputs=outputs, batch_size=4, verbose=0
    )
    return kd.cache.open(path)


def softmax(logits):
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def bucketed(teacher, student):
    """KL over k classes and one of all others, and its gradient by logits."""
    p, q = softmax(teacher), softmax(student)
    kept = np.zeros_like(p, bool)
    np.put_along_axis(kept, np.argsort(-teacher, -1)[..., :K], True, axis=-1)
    p_rest = np.where(kept, 0.0, p).sum(-1, keepdims=True)
    q_rest = np.where(kept, 0.0, q).sum(-1, keepdims=True)
    value = np.where(kept, p * np.log(p / q), 0.0).sum(-1)
    value += (p_rest * np.log(p_rest / q_rest))[..., 0]
    gradient = q - np.where(kept, p, p_rest * q / q_rest)
    return value, gradient


def test_value_and_gradient_are_those_of_k_classes_and_a_rest(tmp_path):
    tokens, weights = data()
    cache, student = written(tmp_path, tokens), model(1)
    teacher_logits, logits = numpy(model(0)(tokens)), numpy(student(tokens))
    values, gradients = bucketed(teacher_logits, logits)
    share = weights / weights.sum()
    distiller = kd.Distiller(cache, student, kd.losses.TopKTargets(K))
    distiller.compile(keras.optimizers.SGD(1.0), None)
    before = numpy(student.get_layer("head").bias)
    joined = cache.join(tokens, sample_weight=weights, batch_size=TEXTS)
    history = distiller.fit(joined, verbose=0).history
    found = history["top_ktargets_loss"][0]
    # The stored log-probabilities have three digits.
    np.testing.assert_allclose(found, (values * share).sum(), rtol=3e-3)
    step = before - numpy(student.get_layer("head").bias)
    expected = (gradients * share[..., None]).sum((0, 1))
    np.testing.assert_allclose(step, expected, atol=1e-3)
    assert np.abs(expected).max() > 0.05


def test_doubled_padding_changes_nothing(tmp_path):
    found = []
    for length in (LENGTH, 2 * LENGTH):
        tokens, weights = data(length)
        cache = written(tmp_path / str(length), tokens)
        distiller = kd.Distiller(cache, model(1), kd.losses.TopKTargets(K))
        distiller.compile("sgd", None)
        joined = cache.join(tokens, sample_weight=weights, batch_size=TEXTS)
        logs = distiller.evaluate(joined, verbose=0, return_dict=True)
        found.append(logs["top_ktargets_loss"])
    assert found[0] > 0.1
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


@pytest.mark.one_backend
def test_the_plan_counts_tokens():
    tokens, _ = data()
    own = kd.cache.TopK(K, temperature=1.0)
    plan = kd.cache.plan(
        model(0), tokens, epochs=9, outputs=own, samples=2000, verbose=0
    )
    assert plan.tokens_per_sample == LENGTH
    (yours,) = (each for each in plan.choices if each.name == "yours")
    # A byte and a half-precision number for each class, one more for the rest.
    assert yours.bytes_per_sample == LENGTH * (3 * K + 2) + 8
    stored, seconds = plan.of_tokens(1e9, yours)
    np.testing.assert_allclose(stored, 1e9 * (3 * K + 2 + 8 / LENGTH))
    np.testing.assert_allclose(seconds, plan.write_seconds * 1e9 / 2000 / 5)
    text = str(plan)
    assert "yours: 63 B a sample" in text
    assert "12.6 B a token, 12.6 MB for 1 M, 12.6 GB for 1 G" in text
    assert "A sample has 5 tokens, padding included: 1 M tokens take" in text
    images = kd.cache.plan(
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]),
        np.ones((8, 4)),
        epochs=1,
        verbose=0,
    )
    assert images.tokens_per_sample is None
    assert "token" not in str(images)

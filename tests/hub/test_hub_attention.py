"""The attention maps of KerasHub's decoders, against NumPy."""

import keras
import numpy as np
import pytest
from support import numpy

import keras_kd as kd

pytest.importorskip("keras_hub")

import hub_models

ATTENTION = "backbone/transformer_layer_0/self_attention"


def rotated(heads, wavelength=10000.0):
    """Rotary positions: `(batch, tokens, heads, size)`."""
    _, tokens, _, size = heads.shape
    rates = wavelength ** -(np.arange(0, size, 2) / size)
    angles = np.arange(tokens)[:, None] * rates
    angles = np.concatenate([angles, angles], axis=-1)[:, None]
    first, second = np.split(heads, 2, axis=-1)
    turned = np.concatenate([-second, first], axis=-1)
    return heads * np.cos(angles) + turned * np.sin(angles)


def maps(query, key, padding_mask):
    """softmax(q k^T / sqrt(d)), causal, without padded keys."""
    key = np.repeat(key, query.shape[2] // key.shape[2], axis=2)
    scores = np.einsum("bqhd,bkhd->bhqk", query, key)
    scores /= np.sqrt(query.shape[-1])
    tokens = scores.shape[-1]
    allowed = np.tri(tokens, dtype=bool) & padding_mask[:, None, None]
    scores = np.where(allowed, scores, -np.inf)
    exp = np.exp(scores - scores.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_maps_of_a_decoder_are_those_of_numpy(kind):
    keras.utils.set_random_seed(0)
    model = getattr(hub_models, kind)(1, 16)
    x, _, _ = hub_models.causal_lm_batch(4)
    plain = numpy(model(x))
    ends = [":scores", "/query", "/key"]
    taps = [ATTENTION + end for end in ends]
    features = kd.extract_features(model, x, ["", *taps])
    scores, query, key = (numpy(features[tap]) for tap in taps)
    if kind == "llama":
        assert key.shape[2] < query.shape[2]
        query, key = rotated(query, 10000.0), rotated(key, 10000.0)
    expected = maps(query, key, x["padding_mask"])
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    # Read or not, the model is the same, and fuses again afterwards.
    np.testing.assert_allclose(numpy(features[""]), plain, atol=1e-5)
    np.testing.assert_array_equal(numpy(model(x)), plain)


def test_maps_of_a_decoder_are_distilled_without_padding():
    keras.utils.set_random_seed(0)
    teacher, student = hub_models.llama_pair()
    transfer = kd.Transfer(
        kd.losses.AttentionMapMatching(),
        teacher=ATTENTION + ":scores",
        student=ATTENTION + ":scores",
    )
    distiller = kd.Distiller(teacher, student, transfer)
    distiller.compile("sgd", None)
    x, _, _ = hub_models.causal_lm_batch(4)
    logs = distiller.evaluate(x, verbose=0, return_dict=True)
    first, second = (
        numpy(kd.extract_features(model, x, ATTENTION + ":scores").popitem()[1])
        for model in (teacher, student)
    )
    mask = x["padding_mask"]
    present = np.tri(6, dtype=bool) & mask[:, None] & mask[:, :, None]
    errors = np.square(first - second).mean(axis=1)
    expected = [each[kept].mean() for each, kept in zip(errors, present)]
    found = logs["attention_map_matching_loss"]
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-4)

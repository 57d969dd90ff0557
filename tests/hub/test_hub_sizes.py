"""KerasHub's models, as they are: sizes come from the data."""

import keras
import numpy as np
import pytest
from support import cross_entropy
from support import numpy

import keras_kd as kd

keras_hub = pytest.importorskip("keras_hub")

import hub_models  # noqa: E402


def log_softmax(logits):
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def soft_targets(teacher, student, temperature=4.0):
    """The divergence of each position, in NumPy."""
    p, q = (
        log_softmax(each.astype("float64") / temperature)
        for each in (teacher, student)
    )
    return temperature**2 * (np.exp(p) * (p - q)).sum(-1)


def test_a_bert_pair_with_hidden_states():
    teacher, student = hub_models.bert_pair()
    for model in (teacher, student):  # Of random weights, they hardly differ.
        kernel = model.output_dense.kernel
        kernel.assign(50.0 * numpy(kernel.value))
    transfers = [
        kd.Transfer(kd.losses.SoftTargets(temperature=4.0)),
        kd.Transfer(
            kd.losses.FeatureMatching(),
            teacher="backbone/transformer_layer_1",
            student="backbone/transformer_layer_0",
            adapter=kd.layers.FeatureAdapter(),
            weight=0.01,
        ),
    ]
    distiller = kd.Distiller(teacher, student, transfers)
    distiller.compile(keras.optimizers.Adam(1e-3), cross_entropy())
    x, y = hub_models.bert_inputs(), hub_models.texts()[1]
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    outputs = (numpy(model(x)) for model in (teacher, student))
    expected = soft_targets(*outputs).mean()
    np.testing.assert_allclose(logs["soft_targets_loss"], expected, rtol=5e-3)
    history = distiller.fit(x, y, 8, 3, 0).history
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_causal_language_model(kind):
    teacher, student = getattr(hub_models, f"{kind}_pair")()
    distiller = kd.Distiller(teacher, student, kd.losses.SoftTargets(4.0))
    distiller.compile("sgd", cross_entropy())
    x, y, weight = hub_models.causal_lm_batch()
    logs = distiller.evaluate(x, y, 8, 0, weight, return_dict=True)
    outputs = (numpy(model(x)) for model in (teacher, student))
    each = soft_targets(*outputs)
    expected = (each * weight).sum() / weight.sum()
    np.testing.assert_allclose(logs["soft_targets_loss"], expected, rtol=5e-3)
    distiller.fit(x, y, 4, 1, 0, sample_weight=weight)


def test_predictions_of_a_language_model_are_stored(tmp_path):
    teacher, student = hub_models.llama_pair()
    embeddings = teacher.backbone.token_embedding.reverse_embeddings
    embeddings.assign(50.0 * numpy(embeddings.value))
    x, y, weight = hub_models.causal_lm_batch()
    found = kd.cache.plan(teacher, x, epochs=3, batch_size=4, verbose=0)
    assert (
        found.choices[1].bytes_per_sample == 6 * len(hub_models.WORDS) * 2 + 8
    )
    outputs = kd.cache.TopK(4, temperature=1.0)
    kd.cache.write(
        teacher, x, tmp_path, outputs=outputs, batch_size=4, verbose=0
    )
    cache = kd.cache.open(tmp_path)
    stored = cache.predictions_of([3])["output"][0]
    logits = numpy(teacher(x))[3]
    np.testing.assert_array_equal(stored.argmax(-1), logits.argmax(-1))
    distiller = kd.Distiller(cache, student, kd.losses.SoftTargets(1.0))
    distiller.compile("sgd", cross_entropy())
    distiller.fit(cache.join(x, y, weight, batch_size=4), verbose=0)


def test_texts_of_two_lengths_are_refused_by_a_cache(tmp_path):
    first, second = (hub_models.causal_lm_batch(4, n)[0] for n in (6, 5))
    batches = [
        (x, {"sample_index": 4 * number + np.arange(4)})
        for number, x in enumerate((first, second))
    ]
    with pytest.raises(ValueError, match="of one shape.*Received.*one size"):
        kd.cache.write(hub_models.llama(), batches, tmp_path, verbose=0)

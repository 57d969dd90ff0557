"""Texts in a cache, through the preprocessor of KerasHub's tasks."""

import keras
import numpy as np
import pytest
from support import cross_entropy
from support import numpy

import keras_kd as kd

keras_hub = pytest.importorskip("keras_hub")

import hub_models  # noqa: E402

TEXTS = ["abc def", "a b", "hgf", "abcdefgh a b c"] * 2


def preprocessor():
    names = ["<|endoftext|>", "Ġ", *"abcdefgh", "ab", "cd"]
    tokenizer = keras_hub.models.GPT2Tokenizer(
        vocabulary={name: number for number, name in enumerate(names)},
        merges=["a b", "c d"],
    )
    return keras_hub.models.GPT2CausalLMPreprocessor(
        tokenizer, sequence_length=8
    )


def teacher():
    keras.utils.set_random_seed(0)
    return hub_models.gpt2(2, 16, preprocessor=preprocessor())


def written(path, model, dataset):
    outputs = kd.cache.TopK(3, temperature=1.0)
    kd.cache.write(
        model, dataset, path, outputs=outputs, batch_size=4, verbose=0
    )
    return kd.cache.open(path, verify="full")


def fitted(cache, data, student_preprocessor):
    keras.utils.set_random_seed(1)
    student = hub_models.gpt2(1, 8, preprocessor=student_preprocessor)
    distiller = kd.Distiller(cache, student, kd.losses.TopKTargets(3))
    distiller.compile(keras.optimizers.SGD(0.1), cross_entropy())
    history = distiller.fit(data, shuffle=False, verbose=0).history
    return history, student


def test_texts_are_as_their_tokens_and_weights(tmp_path):
    model, prepared = teacher(), preprocessor()
    of_texts = written(tmp_path / "texts", model, TEXTS)
    x, y, weight = keras.tree.map_structure(numpy, prepared(TEXTS))
    of_tokens = written(tmp_path / "tokens", model, x)
    every = np.arange(len(TEXTS))
    stored = [c.predictions_of(every)["output"] for c in (of_texts, of_tokens)]
    np.testing.assert_array_equal(*stored)
    history, student = fitted(
        of_texts, of_texts.join(TEXTS, batch_size=4), prepared
    )
    joined = of_tokens.join(x, y, weight, batch_size=4)
    expected, other = fitted(of_tokens, joined, None)
    for name in expected:
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-4)
    for ours, theirs in zip(student.get_weights(), other.get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


class Stream(keras.utils.PyDataset):
    """Texts that are made when they are read."""

    def __len__(self):
        return 2

    def __getitem__(self, number):
        rows = np.arange(4 * number, 4 * number + 4)
        return [TEXTS[row] for row in rows], {"sample_index": rows}


@pytest.mark.one_backend
def test_a_stream_of_texts(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    model = teacher()
    slices = TEXTS, {"sample_index": np.arange(8)}
    kinds = {
        "list": (lambda: TEXTS),
        "array": (lambda: np.array(TEXTS)),
        "dataset": (lambda: Stream()),
        "generator": (lambda: (Stream()[n] for n in range(2))),
        "tf": (
            lambda: tensorflow.data.Dataset.from_tensor_slices(slices).batch(4)
        ),
    }
    every = np.arange(8)
    caches = {
        kind: written(tmp_path / kind, model, make())
        for kind, make in kinds.items()
    }
    first = caches["list"].predictions_of(every)["output"]
    for cache in caches.values():
        np.testing.assert_array_equal(
            cache.predictions_of(every)["output"], first
        )
        # Whatever it was written from, it knows its texts again.
        cache.join(TEXTS)
        (batch, *_) = cache.join(Stream())
        assert "predictions" in batch[1]
        with pytest.raises(ValueError, match="not what the teacher"):
            cache.join(["other", *TEXTS[1:]])
    plan = kd.cache.plan(model, TEXTS, epochs=3, verbose=0)
    assert (plan.samples, plan.tokens_per_sample) == (8, 8)
    model.preprocessor = None
    with pytest.raises(ValueError, match="preprocessor.*Received: texts"):
        written(tmp_path / "none", model, TEXTS)

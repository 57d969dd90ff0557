"""A teacher and a student of two tokenizers: KerasHub's, through `fit`."""

import keras
import numpy as np
import pytest
from support import numpy

import keras_kd as kd

keras_hub = pytest.importorskip("keras_hub")

import hub_models  # noqa: E402

TEXTS = ["a bad film", "good", "not a very good film", "bad bad"]
WORDS = ["<|endoftext|>", *(chr(n) for n in range(97, 123)), "\u0120"]
WORDS += ["oo", "oo" + "d", "\u0120a", "ba", "\u0120" + "ba", "fi"]
MERGES = ["o o", "oo d", "\u0120 a", "b a", "\u0120 ba", "f i"]


def teacher_tokenizer():
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    return keras_hub.models.GPT2Tokenizer(vocabulary, MERGES)


def student_tokenizer():
    return kd.text.OffsetTokenizer(
        keras_hub.tokenizers.ByteTokenizer(), start_id=1, end_id=2
    )


def distiller(weights):
    keras.utils.set_random_seed(0)
    preprocessor = keras_hub.models.GPT2CausalLMPreprocessor(
        teacher_tokenizer(), sequence_length=8
    )
    teacher = hub_models.gpt2(
        1, 16, vocabulary=len(WORDS), preprocessor=preprocessor
    )
    student = hub_models.gpt2(1, 8, vocabulary=260)
    for model in (teacher, student):
        for variable in model.trainable_variables:
            variable.assign(5.0 * variable)
    terms = [
        kd.losses.UniversalLogit(),
        kd.losses.LikelihoodMatching(temperature=2.0),
    ]
    transfers = [
        kd.Transfer(loss, weight=weight) for loss, weight in zip(terms, weights)
    ]
    made = kd.Distiller(teacher, student, transfers, hard_weight=0.0)
    made.compile(keras.optimizers.Adam(0.03), loss=None)
    return made


def data(length=24, teacher_length=20, **arguments):
    return kd.text.PairedTexts(
        TEXTS,
        teacher_tokenizer(),
        student_tokenizer(),
        length=length,
        teacher_length=teacher_length,
        **arguments,
    )


def log_softmax(logits):
    logits = logits.astype("float64")
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def token_log_probs(model, ids):
    """A text alone, without any padding: rows of all classes."""
    ids = np.array([ids], "int32")
    mask = np.ones(ids.shape, bool)
    logits = model({"token_ids": ids, "padding_mask": mask})
    return log_softmax(numpy(logits))[0]


def expected_terms(teacher, student):
    """ULD over tokens, ALM over chunks; cut by hand, a text at a time."""
    uld, alm = [], []
    for text in TEXTS:
        ids = [numpy(teacher_tokenizer()(text)).tolist(), [*text.encode()]]
        ids = [[0, *ids[0], 0], [1, *ids[1], 2]]
        rows = [
            token_log_probs(model, each[:-1])
            for model, each in zip((teacher, student), ids)
        ]
        for pair in zip(*rows):
            first, second = (np.sort(np.exp(row))[::-1] for row in pair)
            first = np.pad(first, (0, len(second) - len(first)))
            uld.append(np.abs(first - second).sum())
        # A byte a token on the student's side: each of the teacher's tokens
        # is a chunk, and so is the end.
        place = 0
        for row, number in zip(rows[0], ids[0][1:]):
            size = 1 if number == 0 else len(WORDS[number])
            q = sum(
                rows[1][n][ids[1][n + 1]] for n in range(place, place + size)
            )
            p, q = (np.exp(x / 2.0 - 1e-6) for x in (row[number], q))
            alm.append(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
            place += size
        assert place == len(text) + 1
    return np.mean(uld), np.mean(alm)


def test_terms_of_two_tokenizers():
    made = distiller(weights=(1.0, 1.0))
    logs = made.evaluate(data(), verbose=0, return_dict=True)
    uld, alm = expected_terms(made.teacher, made.student)
    np.testing.assert_allclose(logs["universal_logit_loss"], uld, rtol=1e-4)
    np.testing.assert_allclose(logs["likelihood_matching_loss"], alm, rtol=1e-3)
    # Twice the padding changes nothing.
    more = made.evaluate(data(32, 32), verbose=0, return_dict=True)
    np.testing.assert_allclose(more["loss"], logs["loss"], rtol=1e-4)
    history = made.fit(data(), epochs=12, verbose=0).history
    assert history["universal_logit_loss"][-1] < 0.8 * uld
    assert history["likelihood_matching_loss"][-1] < 0.5 * alm


@pytest.mark.one_backend
def test_vocabularies_that_differ_without_a_way():
    made = distiller(weights=(1.0, 1.0))
    with pytest.raises(ValueError) as error:
        plain = kd.Distiller(made.teacher, made.student)
        plain.compile("sgd", loss=None)
        plain.fit(data(16, 16), verbose=0)
    message = str(error.value)
    for way in (
        "classes=",
        "UniversalLogit",
        "LikelihoodMatching",
        "34",
        "260",
    ):
        assert way in message


class ChunkScores(keras.Model):
    """A teacher that gives the likelihood of each chunk of a text."""

    def __init__(self, teacher, num_chunks):
        super().__init__()
        self.teacher, self.num_chunks = teacher, num_chunks

    def call(self, x):
        names = "token_ids", "padding_mask"
        logits = self.teacher({name: x[f"teacher_{name}"] for name in names})
        return kd.losses.chunk_log_likelihoods(
            logits,
            x["teacher_labels"],
            x["teacher_chunks"],
            num_chunks=self.num_chunks,
        )


@pytest.mark.one_backend
def test_a_teacher_of_another_tokenizer_is_stored(tmp_path):
    """One float a chunk."""
    live = distiller(weights=(0.0, 1.0))
    inputs, labels, weights = data()[0]
    taught = {f"teacher_{key}": x for key, x in inputs.teacher.items()}
    x = {**inputs.student, **taught}
    scores = ChunkScores(live.teacher, num_chunks=20)
    scores(x)
    kd.cache.write(scores, x, tmp_path, batch_size=4, verbose=0)
    cache = kd.cache.open(tmp_path)
    loss = kd.losses.LikelihoodMatching(temperature=2.0)
    stored = kd.Distiller(cache, live.student, loss, hard_weight=0.0)
    stored.compile("sgd", loss=None)
    joined = cache.join(x, labels, weights, batch_size=4)
    found = stored.evaluate(joined, verbose=0, return_dict=True)
    expected = live.evaluate(data(), verbose=0, return_dict=True)
    name = "likelihood_matching_loss"
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-3)
    history = stored.fit(joined, epochs=2, verbose=0).history
    assert history[name][1] < history[name][0]

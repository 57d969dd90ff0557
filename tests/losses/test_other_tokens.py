"""Losses between models of other vocabularies: padded or of two tokenizers."""

import functools
import inspect

import keras
import numpy as np
import pytest
from battery import MaskTokens
from battery import assert_in_config
from battery import every_check
from battery import random_features
from battery import refused
from battery import shifted
from battery import through_json
from battery import value
from keras import ops
from support import numpy

import keras_kd
from keras_kd import losses
from keras_kd import rules
from keras_kd.losses import LikelihoodMatching
from keras_kd.losses import UniversalLogit
from keras_kd.losses import chunk_log_likelihoods
from keras_kd.losses import likelihood_matching
from keras_kd.losses import universal_logit
from keras_kd.testing import LossCase
from keras_kd.testing import assert_close
from keras_kd.testing import finite_differences
from keras_kd.testing import value_and_gradient


def log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


# --- the first classes only: vocabularies that were padded or extended ------

DIVERGENCES = {
    name: loss
    for name, loss in vars(losses).items()
    if inspect.isclass(loss)
    and issubclass(loss, losses.LogitDivergence)
    and loss is not losses.LogitDivergence
}
PADDED = random_features((7,), (9,), samples=6, size=2.0)
LABELS = np.array([0, 1, 2, 3, 4, 0])


def made(name, **arguments):
    extra = {"k": 2} if name == "TopKTargets" else {}
    return DIVERGENCES[name](**extra, **arguments)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_first_classes(name):
    """As if the others were not there, in value and gradient."""
    teacher, student = PADDED
    loss = through_json(made(name, classes=5))
    loss.check_shapes((None, 7), (None, 9))
    context = {}
    if "labels" in loss.required_context:
        context = {"labels": LABELS}

    def function(student, loss=loss):
        return loss(teacher, student, **context)

    def of_the_rest(student):
        return made(name)(teacher[:, :5], student, **context)

    found, slope = value_and_gradient(function, student)
    expected, first = value_and_gradient(of_the_rest, student[:, :5])
    assert_close(found, expected)
    assert_close(slope[:, :5], first)
    assert np.all(slope[:, 5:] == 0.0)


@pytest.mark.one_backend
def test_first_classes_of_probabilities_and_masked_tokens():
    teacher, student = random_features((3, 4), (3, 6))
    loss = losses.SoftTargets(1.0, classes=4, student_from_logits=False)
    probs = np.exp(log_softmax(student))
    expected = losses.SoftTargets(1.0)(teacher, student[..., :4])
    assert_close(value(loss, teacher, probs), float(expected))
    inputs = keras.Input((3,), dtype="int32")
    embedded = keras.layers.Embedding(5, 6, mask_zero=True)(inputs)
    model = keras.Model(inputs, embedded)
    tokens = np.array([[1, 2, 0], [3, 0, 0]])
    outputs, weights = model(tokens), (tokens > 0).astype("float32")
    loss = losses.SoftTargets(1.0, classes=4)
    expected = loss(teacher[:2], numpy(outputs), weights)
    assert_close(numpy(loss(teacher[:2], outputs)), numpy(expected))


@pytest.mark.one_backend
def test_first_classes_that_are_not_there():
    ways = "classes=.*UniversalLogit.*LikelihoodMatching"
    refused(lambda: losses.SoftTargets()(*PADDED), ways)
    loss = losses.SoftTargets(classes=8)
    message = "first 8 classes.*classes=8.*7 classes.*check_same_ids"
    refused(lambda: loss.check_shapes((None, 7), (None, 9)), message)
    refused(lambda: loss(*PADDED), message)
    refused(lambda: losses.SoftTargets(classes=0), "`classes` must be a pos")
    one = losses.SoftTargets(classes=1)
    refused(lambda: one(*PADDED), "two or more classes")
    assert_in_config(losses.ReverseKL, classes=5, temperature=2.0)


# --- sorted probabilities (ULD) ---------------------------------------------


def l1_of_sorted(teacher, student):
    """Of two rows of logits, as the paper says it."""
    sides = [np.sort(np.exp(log_softmax(x)))[::-1] for x in (teacher, student)]
    size = max(map(len, sides))
    first, second = (np.pad(side, (0, size - len(side))) for side in sides)
    return np.abs(first - second).sum()


def l1_of_first(k, teacher, student):
    """Likewise of the first ranks, and of all others as one."""
    sides = [np.sort(np.exp(log_softmax(x)))[::-1] for x in (teacher, student)]
    sides = [[*side[:k], *np.zeros(k)][:k] + [side[k:].sum()] for side in sides]
    return np.abs(np.subtract(*sides)).sum()


def l1_of_tokens(teacher, student, distance=l1_of_sorted):
    found = np.empty(student.shape[:-1])
    for token in np.ndindex(found.shape):
        found[token] = distance(teacher[token], student[token])
    return found


def uld_case(classes, k=None, **facts):
    sides = random_features(*((3, size) for size in classes), size=2.0)
    first = functools.partial(l1_of_first, k)
    return LossCase(
        functools.partial(UniversalLogit, k),
        *sides,
        reference=functools.partial(
            l1_of_tokens, distance=first if k else l1_of_sorted
        ),
        smooth=False,
        invariances=(shifted,),
        **facts,
    )


CASES = {
    "universal_logit": uld_case((5, 5)),
    "universal_logit-larger_teacher": uld_case((7, 4), identical=None),
    "universal_logit-larger_student": uld_case((4, 7), identical=None),
    "universal_logit-k2": uld_case((5, 5), 2),
    "universal_logit-k5": uld_case((4, 7), 5, identical=None),
}


def test_sorted_gradient():
    teacher, student = random_features((6,), (4,), size=2.0)

    def function(student):
        return UniversalLogit(temperature=2.0)(teacher, student)

    _, slope = value_and_gradient(function, student)
    expected = finite_differences(
        lambda s: np.mean(l1_of_tokens(teacher / 2.0, s / 2.0)),
        student.astype("float64"),
    )
    assert_close(slope, expected, 1e-4)


def test_first_ranks_come_near_to_all():
    """From below; they are all there is as soon as they are as many."""
    teacher, student = random_features((7,), (5,), size=2.0)
    values = [value(UniversalLogit(k), teacher, student) for k in (1, 3, 7)]
    whole = value(UniversalLogit(), teacher, student)
    assert values[0] < values[1] < values[2] + 1e-6
    assert_close(values[2], whole)


def test_sorted_order_is_of_no_importance():
    teacher, student = random_features((6,), (6,))
    mixed = teacher[:, [3, 1, 5, 0, 2, 4]]
    assert value(UniversalLogit(), teacher, mixed) < 1e-6
    both = [universal_logit(each, student) for each in (teacher, mixed)]
    assert_close(numpy(both[0]), numpy(both[1]))


# Two texts: of each side, which tokens count (no prompts, no padding).
TEACHER_COUNTS = np.array([[0, 1, 1, 1, 0], [1, 1, 0, 0, 0]], "float32")
STUDENT_COUNTS = np.array([[0, 0, 1, 1], [1, 1, 1, 0]], "float32")
# The k-th of one with the k-th of the other.
PAIRS = [[(1, 2), (2, 3)], [(0, 0), (1, 1)]]


def texts_of_two_lengths():
    teacher, student = random_features((5, 6), (4, 3), samples=2, size=2.0)
    return teacher, student, {"teacher_weight": TEACHER_COUNTS}


def test_sorted_tokens_of_two_lengths():
    teacher, student, inputs = texts_of_two_lengths()
    expected = np.mean(
        [
            l1_of_sorted(teacher[text, t], student[text, s])
            for text, pairs in enumerate(PAIRS)
            for t, s in pairs
        ]
    )

    def function(student, weights):
        loss = UniversalLogit()
        return loss(teacher, student, weights, inputs=inputs)

    found, slope = value_and_gradient(function, student, STUDENT_COUNTS)
    assert_close(found, expected)
    counted = {(text, s) for text, pairs in enumerate(PAIRS) for _, s in pairs}
    for token in np.ndindex(2, 4):
        assert np.any(slope[token] != 0.0) == (token in counted)
    # A Keras mask, in the place of weights.
    mask = value(
        UniversalLogit(),
        teacher,
        student,
        mask=STUDENT_COUNTS > 0,
        inputs=inputs,
    )
    assert_close(mask, expected)


def padded(array, by=4, fill=0):
    """An array with more positions at the end."""
    widths = [(0, 0), (0, by)] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, widths, constant_values=fill)


def test_sorted_more_padding_and_a_split_batch():
    teacher, student, inputs = texts_of_two_lengths()
    loss = UniversalLogit()
    whole = value(loss, teacher, student, STUDENT_COUNTS, inputs=inputs)
    longer = {"teacher_weight": padded(TEACHER_COUNTS)}
    more = value(
        loss,
        padded(teacher, fill=3.0),
        padded(student, 7),
        padded(STUDENT_COUNTS, 7),
        inputs=longer,
    )
    assert_close(more, whole, 1e-6)
    parts = [
        value(
            loss,
            teacher[n : n + 1],
            student[n : n + 1],
            STUDENT_COUNTS[n : n + 1],
            inputs={"teacher_weight": TEACHER_COUNTS[n : n + 1]},
        )
        for n in range(2)
    ]
    assert_close(np.mean(parts), whole, 1e-6)  # Two pairs of tokens in each.


def test_a_mask_of_the_teachers_tokens_is_not_the_students():
    teacher, student = random_features((3, 6), (3, 4), samples=2)
    mask = np.array([[1, 1, 0], [1, 0, 0]], bool)
    expected = np.mean(l1_of_tokens(teacher, student))
    masked = MaskTokens(mask)(ops.convert_to_tensor(teacher))
    assert_close(value(UniversalLogit(), masked, student), expected)


# --- aligned chunks (ALM) ---------------------------------------------------

EPS = 1e-6
# Six texts of three chunks; -1 is a token of no chunk.
TEACHER_CHUNKS = np.array([[0, 0, 1, 2, -1]] * 5 + [[0, 1, 1, -1, 2]])
STUDENT_CHUNKS = np.array(
    [[-1, 0, 1, 1, 1, 2, 2]] * 5 + [[0, 0, 0, 1, -1, 2, -1]]
)
random = np.random.default_rng(0)
TEACHER_LABELS = random.integers(0, 6, TEACHER_CHUNKS.shape)
STUDENT_LABELS = random.integers(0, 4, STUDENT_CHUNKS.shape)
INPUTS = {
    "chunks": STUDENT_CHUNKS,
    "teacher_chunks": TEACHER_CHUNKS,
    "teacher_labels": TEACHER_LABELS,
}
LENGTHS = TEACHER_CHUNKS.shape[1], STUDENT_CHUNKS.shape[1]


def coins(log_p, log_q, temperature):
    """KL of two coins, in float64."""
    p, q = (np.exp(x / temperature - EPS) for x in (log_p, log_q))
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


def main_path(logits, labels, chunks):
    """Of one text, a token at a time: chunk -> log-likelihood."""
    found = {}
    for row, label, chunk in zip(log_softmax(logits), labels, chunks):
        if chunk >= 0:
            found[chunk] = found.get(chunk, 0.0) + row[label]
    return found


def chunk_values(teacher, student, text, temperature):
    ours = main_path(student, STUDENT_LABELS[text], STUDENT_CHUNKS[text])
    theirs = main_path(teacher, TEACHER_LABELS[text], TEACHER_CHUNKS[text])
    return [coins(theirs[c], ours[c], temperature) for c in ours]


@keras.saving.register_keras_serializable(package="keras_kd_tests")
class Aligned(LikelihoodMatching):
    """A case has labels of samples only: here they are the text's number."""

    def __call__(self, teacher, student, sample_weight=None, *, labels, **more):
        rows = ops.convert_to_tensor(labels)
        inputs = {
            key: ops.take(each, rows, axis=0) for key, each in INPUTS.items()
        }
        return super().__call__(
            teacher,
            student,
            sample_weight,
            labels=ops.take(STUDENT_LABELS, rows, axis=0),
            inputs=inputs,
            **more,
        )


def alm_case(temperature):
    def reference(teacher, student, labels):
        # Every text has three chunks: the mean of means is that of all.
        return np.array(
            [
                np.mean(chunk_values(*sides, text, temperature))
                for *sides, text in zip(teacher, student, labels)
            ]
        )

    teacher, student = random_features(
        (LENGTHS[0], 6), (LENGTHS[1], 4), samples=6, size=2.0
    )
    return LossCase(
        functools.partial(Aligned, temperature, name="aligned"),
        teacher,
        student,
        labels=np.arange(6),
        reference=reference,
        identical=None,
        invariances=(shifted,),
    )


CASES.update({f"likelihood_matching_T{t:g}": alm_case(t) for t in (1.0, 100.0)})


def checks(cases):
    """All but the one that takes a teacher's positions for the student's."""
    marked = every_check(cases)
    kept = [
        each
        for each in marked.args[1]
        if not each.id.endswith("-absent_positions")
    ]
    return pytest.mark.parametrize(marked.args[0], kept)


@checks(CASES)
def test_contract(case, check):
    check(case)


ALM = alm_case(1.0)
ROWS = np.arange(6)


def alm(teacher, student, weights=None, inputs=INPUTS, labels=STUDENT_LABELS):
    loss = LikelihoodMatching(temperature=1.0)
    return value(loss, teacher, student, weights, inputs=inputs, labels=labels)


def test_chunks_that_count():
    """Only those that both sides have, all of whose tokens count."""
    teacher, student = ALM.teacher, ALM.student
    weights = np.ones(STUDENT_CHUNKS.shape, "float32")
    weights[:5, 2] = 0.0  # One token of chunk 1.
    weights[5] = 2.0
    inputs = {**INPUTS, "teacher_chunks": TEACHER_CHUNKS.copy()}
    inputs["teacher_chunks"][0, 3] = -1  # The teacher lacks chunk 2.
    total = number = 0.0
    for text in ROWS:
        values = chunk_values(teacher[text], student[text], text, 1.0)
        kept = {0: [0], 5: [0, 1, 2]}.get(text, [0, 2])
        total += sum(values[c] for c in kept) * (2.0 if text == 5 else 1.0)
        number += len(kept) * (2.0 if text == 5 else 1.0)
    found = alm(teacher, student, weights, inputs)
    assert_close(found, total / number)
    # Labels that are ignored, as the data has them, are no tokens.
    labels = np.where(weights > 0.0, STUDENT_LABELS, -1)
    assert_close(alm(teacher, student, weights, inputs, labels), found, 1e-6)


def test_likelihoods_that_were_stored():
    """One float a chunk is all that is needed of the teacher."""
    stored = chunk_log_likelihoods(
        ALM.teacher, TEACHER_LABELS, TEACHER_CHUNKS, num_chunks=4
    )
    expected = [
        main_path(ALM.teacher[t], TEACHER_LABELS[t], TEACHER_CHUNKS[t])
        for t in ROWS
    ]
    expected = [[each[c] for c in range(3)] + [0.0] for each in expected]
    assert_close(numpy(stored), np.array(expected))
    whole = alm(ALM.teacher, ALM.student)
    inputs = {"chunks": STUDENT_CHUNKS}
    assert_close(alm(numpy(stored), ALM.student, inputs=inputs), whole)


def test_chunks_more_padding_and_a_split_batch():
    whole = alm(ALM.teacher, ALM.student)
    inputs = {
        "chunks": padded(STUDENT_CHUNKS, fill=-1),
        "teacher_chunks": padded(TEACHER_CHUNKS, 9, -1),
        "teacher_labels": padded(TEACHER_LABELS, 9),
    }
    sides = padded(ALM.teacher, 9, 5.0), padded(ALM.student, fill=-3.0)
    more = alm(*sides, inputs=inputs, labels=padded(STUDENT_LABELS))
    assert_close(more, whole, 1e-6)
    parts = [
        alm(
            ALM.teacher[rows],
            ALM.student[rows],
            inputs={key: each[rows] for key, each in INPUTS.items()},
            labels=STUDENT_LABELS[rows],
        )
        for rows in (slice(0, 2), slice(2, 4), slice(4, 6))
    ]
    assert_close(np.mean(parts), whole, 1e-6)


def test_likelihoods_at_both_ends():
    """Certain and impossible pieces have finite values and gradients."""
    ends = np.array([0.0, -1e-7, -1e-3, -50.0, -1e4, -1e30], "float32")
    p, q = (side.ravel() for side in np.meshgrid(ends, ends))
    for temperature in (1.0, 100.0):

        def function(q, temperature=temperature):
            found = likelihood_matching(p, q, temperature=temperature)
            return ops.sum(found * 1e-6)

        found, slope = value_and_gradient(function, q)
        assert np.isfinite(found)
        assert np.isfinite(slope).all()
    near = p >= -50.0, q >= -50.0
    p, q = (side[near[0] & near[1]] for side in (p, q))
    assert_close(
        numpy(likelihood_matching(p, q, temperature=10.0)),
        coins(p.astype("float64"), q.astype("float64"), 10.0),
        1e-4,
    )


@pytest.mark.one_backend
def test_a_student_that_ends_in_a_softmax():
    probs = np.exp(log_softmax(ALM.student))
    loss = LikelihoodMatching(1.0, student_from_logits=False)
    found = value(
        loss, ALM.teacher, probs, inputs=INPUTS, labels=STUDENT_LABELS
    )
    assert_close(found, alm(ALM.teacher, ALM.student))


# --- bad input --------------------------------------------------------------


@pytest.mark.one_backend
def test_what_is_refused():
    teacher, student, _ = texts_of_two_lengths()
    message = "different lengths.*'teacher_weight'.*PairedTexts"
    refused(lambda: UniversalLogit()(teacher, student), message)
    refused(lambda: UniversalLogit()(teacher, student[0]), "the same rank")
    refused(lambda: UniversalLogit()(teacher, student[..., :1]), "two classes")
    message = "'teacher_labels'. Received: inputs with the keys.*'chunks'"
    inputs = {"chunks": STUDENT_CHUNKS}
    refused(lambda: alm(ALM.teacher, ALM.student, inputs=inputs), message)
    refused(lambda: alm(ALM.teacher, ALM.student, inputs=None), "no dict")
    loss = LikelihoodMatching()
    refused(lambda: loss.check_shapes((4, 2, 3, 5), (4, 3, 5)), "the same rank")
    loss.check_shapes((None, 7), (None, None, 5))
    refused(lambda: loss(ALM.teacher, ALM.student, inputs=INPUTS), "`labels`")
    refused(lambda: UniversalLogit(0), "`k` must be a positive integer")
    assert_in_config(UniversalLogit, k=3, temperature=2.0)
    for loss in (UniversalLogit, LikelihoodMatching):
        refused(lambda make=loss: make(temperature=0.0), "positive")
        refused(
            lambda make=loss: keras_kd.Transfer(
                make(), rules=[rules.DropWrong()]
            ),
            "different classes",
        )

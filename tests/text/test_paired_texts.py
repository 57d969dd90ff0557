"""Texts in the tokens of two tokenizers, and what the losses need of them."""

import pytest

from keras_kd.text import OffsetTokenizer
from keras_kd.text import PairedTexts

pytestmark = pytest.mark.one_backend


class Bytes:
    """As KerasHub's; and the same in pairs of bytes."""

    def __init__(self, size=1):
        self.size = size

    def tokenize(self, text):
        data = text.encode("latin-1")
        pieces = [
            data[n : n + self.size] for n in range(0, len(data), self.size)
        ]
        return [int.from_bytes(piece, "big") for piece in pieces]

    def id_to_token(self, number):
        return bytes(divmod(number, 256)).lstrip(b"\0").decode("latin-1")


def tokenizers(**special):
    return OffsetTokenizer(Bytes(2), **special), OffsetTokenizer(Bytes())


def batch(*args, **kwargs):
    (inputs, labels, weights) = PairedTexts(*args, **kwargs)[0]
    return inputs.student, inputs.teacher, labels, weights


def pair(text):
    first, second = text.encode()
    return 256 * first + second


def test_a_batch_by_hand():
    teacher = OffsetTokenizer(Bytes(2), start_id=7, end_id=8)
    student = OffsetTokenizer(Bytes(), start_id=5, end_id=6, pad_id=4)
    a, b, c, d = map(ord, "abcd")
    student_x, teacher_x, labels, weights = batch(
        ["abcd", "ab"], teacher, student, length=7, teacher_length=5
    )
    assert student_x["token_ids"].tolist() == [
        [5, a, b, c, d, 6],
        [5, a, b, 6, 4, 4],
    ]
    assert student_x["padding_mask"].tolist() == [
        [True] * 6,
        [True] * 4 + [False] * 2,
    ]
    assert labels.tolist() == [[a, b, c, d, 6, 4], [a, b, 6, 4, 4, 4]]
    assert weights.tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]]
    ab, cd = pair("ab"), pair("cd")
    assert teacher_x["token_ids"].tolist() == [[7, ab, cd, 8], [7, ab, 8, 0]]
    assert student_x["teacher_labels"].tolist() == [
        [ab, cd, 8, 0],
        [ab, 8, 0, 0],
    ]
    assert student_x["teacher_weight"].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
    # The end is a chunk of its own.
    assert student_x["chunks"].tolist() == [
        [0, 0, 1, 1, 2, -1],
        [0, 0, 1, -1, -1, -1],
    ]
    assert student_x["teacher_chunks"].tolist() == [
        [0, 1, 2, -1],
        [0, 1, -1, -1],
    ]
    assert labels.dtype == student_x["teacher_labels"].dtype == "int32"


def chunks_of(*args, **kwargs):
    student, *_ = batch(*args, **kwargs)
    return student["chunks"][0].tolist(), student["teacher_chunks"][0].tolist()


def test_tokens_that_nothing_comes_before():
    """Without a start token the first one is predicted by none."""
    found = chunks_of(["abcd"], *tokenizers(), length=4)
    assert found == ([-1, 1, 1], [1, -1, -1])


def test_chunks_that_are_cut_off():
    teacher, student = tokenizers(start_id=0)
    student.start_id = 0
    # The student's second chunk lacks "d", the teacher has no third.
    found = chunks_of(["abcdef"], teacher, student, length=4, teacher_length=3)
    assert found == ([0, 0, -1], [0, -1])


def test_prompts():
    teacher, student = tokenizers(start_id=0, end_id=1)
    student.start_id, student.end_id = 0, 1
    arguments = dict(length=8, teacher_length=5)
    student_x, _, labels, weights = batch(
        ["cd"], teacher, student, prompts=["ab"], **arguments
    )
    assert labels[0, :5].tolist() == [*map(ord, "abcd"), 1]
    assert weights[0].tolist() == [0, 0, 1, 1, 1, 0, 0]
    assert student_x["teacher_weight"][0].tolist() == [0, 1, 1, 0]
    assert student_x["chunks"][0].tolist() == [-1, -1, 1, 1, 2, -1, -1]
    assert student_x["teacher_chunks"][0].tolist() == [-1, 1, 2, -1]
    # A token of prompt and text is the prompt's.
    student_x, _, _, weights = batch(
        ["bcd"], teacher, student, prompts=["a"], **arguments
    )
    assert weights[0].tolist() == [0, 1, 1, 1, 1, 0, 0]
    assert student_x["teacher_weight"][0].tolist() == [0, 1, 1, 0]
    assert student_x["chunks"][0].tolist() == [-1, -1, 1, 1, 2, -1, -1]


def test_chunks_of_words():
    teacher, student = tokenizers(start_id=0, end_id=1)
    student.start_id, student.end_id = 0, 1
    found = chunks_of(["abcd ef "], teacher, student, length=11, chunks="words")
    # " e" is one token of the teacher's: no cut before the last space.
    assert found[1][:5] == [0, 0, 1, 1, 2]
    assert found[0] == [0, 0, 0, 0, 1, 1, 1, 1, 2, -1]


def test_order():
    texts = [chr(97 + n) for n in range(12)]
    teacher, student = tokenizers(start_id=0)
    student.start_id = 0
    arguments = dict(length=2, batch_size=5)

    def order(data):
        assert len(data) == data.num_batches == 3
        return [chr(c) for n in range(3) for c in data[n][1][:, 0]]

    data = PairedTexts(texts, teacher, student, **arguments)
    assert order(data) == texts
    data = PairedTexts(texts, teacher, student, seed=1, **arguments)
    first = order(data)
    assert sorted(first) == texts != first
    data.set_epoch(1)
    assert order(data) != first
    data.set_epoch(0)
    assert order(data) == first


def test_what_is_refused():
    def refused(message, texts=("ab",), **arguments):
        with pytest.raises(ValueError, match=message):
            PairedTexts(texts, *tokenizers(), **{"length": 4, **arguments})

    refused("`length` must be an integer of at least 2", length=1)
    refused("Received: 0 texts", texts=[])
    refused("1 texts and 2 prompts", prompts=["a", "b"])
    refused("`chunks` must be one of 'shortest', 'words'", chunks="long")

    class Lossy(Bytes):
        def tokenize(self, text):
            return super().tokenize(text[1:])

    # The first text shows it, before any training.
    with pytest.raises(ValueError, match="Lossy don't add up.*text='ab'"):
        PairedTexts(["ab"], Bytes(), Lossy(), length=4)

"""PairedTexts: texts tokenized for a teacher and for a student."""

import keras
import numpy as np

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import one_of
from keras_kd._src.distillation.batch import PairedInputs
from keras_kd._src.text.alignment import align
from keras_kd._src.text.alignment import word_ends
from keras_kd._src.text.offsets import as_offset_tokenizer


class PairedTexts(keras.utils.PyDataset):
    """Texts for a teacher and a student with different tokenizers, aligned.

    Data for `fit` and `evaluate` of language models (cross-tokenizer
    distillation). Both tokenizers tokenize each text, and each model gets its
    own tokens. What the losses `UniversalLogit` (ULD) and `LikelihoodMatching`
    (ALM) need to know about the teacher's tokens is added to the student's
    inputs.

    A batch is `(inputs, labels, weights)`: `token_ids` and `padding_mask` for
    each model; the student's next tokens; and weights that are 1 where a next
    token counts, else 0. The student's inputs also hold `chunks` and
    `teacher_chunks` (see `align`) of both sides' next tokens,
    `teacher_labels`, and `teacher_weight`. Models take `token_ids` and
    `padding_mask` by name, as KerasHub's do; if the two lengths differ, they
    must take any length.

    The end tokens of both sides are a chunk of their own, so that the teacher's
    predictions of where a text ends are distilled, too.

    Args:
        texts: list of strings.
        teacher: the teacher's tokenizer: an `OffsetTokenizer`, or any that it
            takes.
        student: the student's tokenizer, of the same kinds.
        length: integer, how many tokens of a text the student gets; longer
            texts are truncated, shorter ones padded.
        teacher_length: the same for the teacher; by default `length`.
        batch_size: integer, texts in a batch.
        prompts: list of strings, one before each text. Their tokens are inputs,
            but count in no loss.
        chunks: `"shortest"`, or `"words"` for chunks that end with a word.
        seed: integer, the seed that shuffles the texts anew in each epoch; None
            keeps the list's order.

    Raises:
        ValueError: a tokenizer has no offsets, or its tokens don't add up to
            the first text; `prompts` and `texts` differ in length; an argument
            is out of range.

    Example:
    >>> class Bytes:  # Works like `keras_hub.tokenizers.ByteTokenizer`.
    ...     def tokenize(self, text):
    ...         return list(text.encode())
    ...     def id_to_token(self, id):
    ...         return chr(id)
    >>> data = PairedTexts(["abc", "de"], Bytes(), Bytes(), length=3)
    >>> inputs, labels, weights = data[0]
    >>> sorted(inputs.student)[:3], labels.shape
    (['chunks', 'padding_mask', 'teacher_chunks'], (2, 2))
    """

    def __init__(
        self,
        texts,
        teacher,
        student,
        *,
        length,
        teacher_length=None,
        batch_size=32,
        prompts=None,
        chunks="shortest",
        seed=None,
    ):
        super().__init__()
        self.texts = list(texts)
        self.prompts = prompts if prompts is None else list(prompts)
        self.teacher = as_offset_tokenizer(teacher)
        self.student = as_offset_tokenizer(student)
        self.length = integer(length, "length", least=2)
        teacher_length = length if teacher_length is None else teacher_length
        self.teacher_length = integer(teacher_length, "teacher_length", least=2)
        self.batch_size = integer(batch_size, "batch_size")
        self.chunks = one_of(chunks, "chunks", ("shortest", "words"))
        self.seed = seed
        self._check_texts()
        self.set_epoch(0)

    def _check_texts(self):
        number = None if self.prompts is None else len(self.prompts)
        if not self.texts or number not in (None, len(self.texts)):
            raise ValueError(
                "Arguments `texts` and `prompts` must be lists of the same "
                "number of strings, one or more. Received: "
                f"{len(self.texts)} texts and {number} prompts."
            )
        self._sample(0)  # Raises at once if a tokenizer doesn't work.

    def set_epoch(self, epoch):
        """Draws the order of an epoch; the monitor of `fit` calls it."""
        self.order = np.arange(len(self.texts))
        if self.seed is not None:
            np.random.default_rng([self.seed, epoch]).shuffle(self.order)

    def __len__(self):
        return -(-len(self.texts) // self.batch_size)

    @property
    def num_batches(self):
        return len(self)

    def __getitem__(self, index):
        begin = index * self.batch_size
        rows = self.order[begin : begin + self.batch_size]
        samples = [self._sample(row) for row in rows]
        teacher, student = (
            {key: np.stack([each[key] for each in side]) for key in side[0]}
            for side in zip(*samples)
        )
        labels, weights = student.pop("labels"), student.pop("weight")
        for key in ("labels", "weight", "chunks"):
            student[f"teacher_{key}"] = teacher.pop(key)
        return PairedInputs(student, teacher), labels, weights

    def _sample(self, row):
        """The entries of a text, for the teacher and for the student."""
        prompt = "" if self.prompts is None else self.prompts[row]
        text = prompt + self.texts[row]
        sides = [
            _tokens(tokenizer, text)
            for tokenizer in (self.teacher, self.student)
        ]
        whole = self.chunks == "shortest"
        # The end tokens are one byte after the text.
        ends = None if whole else [*word_ends(text), len(text.encode()) + 1]
        chunks = align(*(offsets for _, offsets in sides), boundaries=ends)
        first = len(prompt.encode())
        counts = [offsets[:, 0] >= first for _, offsets in sides]
        tokenizers = self.teacher, self.student
        lengths = self.teacher_length, self.length
        chunks = _only_whole(chunks, counts, lengths)
        return [
            _entries(ids, *rest, tokenizer.pad_id, length)
            for (ids, _), *rest, tokenizer, length in zip(
                sides, chunks, counts, tokenizers, lengths
            )
        ]


def _tokens(tokenizer, text):
    """Ids and offsets of a text, with special tokens."""
    ids, offsets = tokenizer.encode(text)
    size = len(text.encode())
    for special, span, where in (
        (tokenizer.start_id, (0, 0), 0),
        (tokenizer.end_id, (size, size + 1), None),
    ):
        if special is not None:
            where = len(ids) if where is None else where
            ids = np.insert(ids, where, special)
            offsets = np.insert(offsets, where, span, axis=0)
    return ids, offsets


def _only_whole(chunks, counts, lengths):
    """Chunk numbers, but -1 unless all tokens of a chunk are predicted."""
    left_out = [
        np.concatenate([each[:1], each[~count], each[length:]])
        for each, count, length in zip(chunks, counts, lengths)
    ]
    left_out = np.concatenate(left_out)
    return [np.where(np.isin(each, left_out), -1, each) for each in chunks]


def _entries(ids, chunks, counts, pad_id, length):
    """One model's entries of a text: inputs, next tokens, their chunks."""

    def padded(values, fill):
        values = values[:length]
        missing = length - len(values)
        return np.pad(values, (0, missing), constant_values=fill)

    real = padded(np.ones(len(ids), bool), False)
    ids = padded(ids, pad_id)
    return {
        "token_ids": ids[:-1],
        "padding_mask": real[:-1],
        "labels": ids[1:],
        "weight": padded(counts, False)[1:].astype("float32"),
        "chunks": padded(chunks, -1)[1:],
    }

"""PairedTexts: texts in the tokens of a teacher and of a student."""

import keras
import numpy as np

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import one_of
from keras_kd._src.distillation.batch import PairedInputs
from keras_kd._src.text.alignment import align
from keras_kd._src.text.alignment import word_ends
from keras_kd._src.text.offsets import as_offset_tokenizer


class PairedTexts(keras.utils.PyDataset):
    """Texts for a teacher and a student of two tokenizers, aligned.

    Data for `fit` and `evaluate` of language models. Each text is cut into
    tokens by both tokenizers, each model gets its own, and what the losses
    across tokenizers (`UniversalLogit`, `LikelihoodMatching`) need to know of
    the other side comes along in the student's inputs.

    A batch is `(inputs, labels, weights)`: `token_ids` and `padding_mask` of
    each model, the student's next tokens, and 1 where there is one that
    counts. The student's inputs hold, besides: `chunks` and `teacher_chunks`
    (see `align`) of both sides' next tokens, `teacher_labels`, and
    `teacher_weight`. Models take `token_ids` and `padding_mask` by name, as
    KerasHub's do, and must take any length where the two lengths differ.

    The end token of both sides is a chunk of its own: the student learns from
    the teacher where a text ends.

    Args:
        texts: list of strings.
        teacher: the teacher's tokenizer; what `OffsetTokenizer` takes, or one.
        student: the student's.
        length: how many tokens of a text the student gets; longer texts are
            cut, shorter ones padded.
        teacher_length: likewise of the teacher; as many by default.
        batch_size: texts in a batch.
        prompts: list of strings that come before the texts. The tokens of
            prompts are read, and count in no loss.
        chunks: `"shortest"`, or `"words"` for chunks that end with a word.
        seed: of the order, another one in each epoch; None for that of the
            list.

    Raises:
        ValueError: a tokenizer has no offsets, or its tokens don't add up to
            the first text; `prompts` are not as many as `texts`; an argument
            is not of its kind.

    Example:
    >>> class Bytes:  # As `keras_hub.tokenizers.ByteTokenizer` does it.
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
                "Arguments `texts` and `prompts` must be lists of as many "
                f"strings, one or more. Received: {len(self.texts)} texts and "
                f"{number} prompts."
            )
        self._sample(0)  # Says at once what is wrong with a tokenizer.

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
        """A text's entries of teacher and student."""
        prompt = "" if self.prompts is None else self.prompts[row]
        text = prompt + self.texts[row]
        sides = [
            _tokens(tokenizer, text)
            for tokenizer in (self.teacher, self.student)
        ]
        whole = self.chunks == "shortest"
        # The end tokens stand one byte after the text.
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
    """The chunks all of whose tokens count and are predicted, else -1."""
    left_out = [
        np.concatenate([each[:1], each[~count], each[length:]])
        for each, count, length in zip(chunks, counts, lengths)
    ]
    left_out = np.concatenate(left_out)
    return [np.where(np.isin(each, left_out), -1, each) for each in chunks]


def _entries(ids, chunks, counts, pad_id, length):
    """What one model gets of a text: inputs, next tokens, their chunks."""

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

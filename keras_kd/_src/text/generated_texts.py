"""GeneratedTexts: data that the student, or the teacher, generates."""

import pathlib
import time
from typing import Any
from typing import NamedTuple

import keras
import numpy as np

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import number
from keras_kd._src.array_file import opened_arrays
from keras_kd._src.array_file import write_arrays
from keras_kd._src.fingerprint import digest
from keras_kd._src.fingerprint import fingerprint
from keras_kd._src.text.tokens import end_tokens
from keras_kd._src.text.tokens import packed_batch
from keras_kd._src.text.tokens import pad_token
from keras_kd._src.text.tokens import prompt_tokens
from keras_kd._src.text.tokens import response_tokens
from keras_kd._src.text.writer import Writer
from keras_kd._src.text.writer import length_of

FILE = "generated_texts.npz"
# Each random choice has a stream of its own.
PROMPTS, WRITTEN, ORDER, SAMPLING = range(4)


class _Buffer(NamedTuple):
    """The samples of an epoch, by row; `rows` are the prompts' numbers."""

    rows: Any
    tokens: Any
    lengths: Any
    written: Any
    ended: Any


class GeneratedTexts(keras.utils.PyDataset):
    """GKD: texts that the student generates, as data (on-policy distillation).

    A student that is trained only on given texts later continues its own texts,
    with mistakes that it has never seen in training. In generalized knowledge
    distillation (GKD) the student generates a share of the training texts, and
    the teacher predicts the next token at each position of them:

        data = GeneratedTexts(
            prompts, responses, writer=student, share=0.5, steps=100
        )
        distiller = Distiller(
            teacher, student, losses.JensenShannon(), hard_weight=0.0
        )
        distiller.compile(
            "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        distiller.fit(data, epochs=20)

    At the start of each epoch of `fit`, the current student generates the texts
    of that epoch with KerasHub's compiled `generate`; so the texts are renewed
    every `steps` steps. Samples and seeds depend only on `seed` and the epoch,
    and all batches have one shape. `fit` logs `generated_texts` (how many were
    generated), `generated_length` (mean tokens of a response),
    `generated_ended` (the share with an end token), and `generation_time` (the
    share of the epoch's time). Don't pass `steps_per_epoch` to `fit`: `steps`
    sets it.

        sample_weight = 1 where the label is a token of the response, else 0

    The label at the prompt's last token is the response's first token, and
    counts; so does the end token, once. A text that reaches `max_length` is
    truncated and gets no end token, so that the student isn't trained to end a
    text in the middle. Prompts and responses that are given as text are
    tokenized once, each by itself; all else works on tokens.

    Generated and given texts in one batch can have different losses: if a batch
    may have both, `x` has the masks `"written_mask"` (generated) and
    `"given_mask"`. DistiLLM-2 is

        given = generate_responses(teacher, prompts)
        data = GeneratedTexts(prompts, given, writer=student, share=0.5)
        transfers = [
            Transfer(losses.SkewKL(), mask="given_mask", name="skl"),
            Transfer(losses.SkewReverseKL(), mask="written_mask", name="srkl"),
        ]

    The compiled loss would take the student's own tokens as labels; a warning
    says so. Give the `Distiller` a `hard_weight` of 0. Or pass an
    `ignore_class` here, the same one in the compiled loss, and
    `ignore_class=False` in transfers. The `fit` of a `Distiller` or a plain
    Keras model takes this data set; that of KerasHub's tasks does not.

    Args:
        prompts: list of texts, or of token sequences, which are not changed.
        responses: list of the same length, one response for each prompt. Token
            sequences must include their end token; texts get it. None if all
            responses are generated.
        writer: the KerasHub `CausalLM` that generates: the student; or the
            teacher, for sequence-level KD. Its preprocessor tokenizes texts. It
            may be None if `share` is 0.
        share: the share of samples that are generated, in [0, 1] (lambda in
            GKD); by default 0.5, or 1 without `responses`.
        batch_size: integer, samples in a batch, and texts that are generated
            at once.
        max_length: integer, tokens of a prompt and its response together; by
            default that of the writer's preprocessor.
        steps: integer, batches in an epoch; by default each prompt comes once.
        refresh_every: integer, after how many epochs new texts are generated;
            None for never, as for a teacher, which does not change.
        sampler: name of a KerasHub sampler, or an instance from
            `keras_hub.samplers`, such as `RandomSampler(temperature=0.9)`. The
            task's own sampler and compiled `generate` are not changed.
        seed: non-negative integer.
        folder: path of a folder in which the generated texts are kept, such as
            that of `callbacks.EpochBackup`, so that a resumed run continues
            with them. None keeps them in memory only; a resumed run then
            generates new ones.
        end_token_id: integer or list of integers, the tokens that end a text;
            by default those of the writer's preprocessor.
        ignore_class: integer, the label that replaces each generated token;
            None keeps the tokens as labels.
        columns: dict of arrays with one entry for each prompt, which are added
            to `x`, such as each sample's teacher (`teachers.TeacherBySample`).

    Raises:
        ValueError: an argument is out of range; a prompt is empty or too long;
            `responses` are missing although not all are generated; the writer
            can't generate, or has no preprocessor for texts; `folder` has the
            texts of another run.

    Example:
    >>> import keras_kd as kd
    >>> data = kd.text.GeneratedTexts(
    ...     prompts=[[5, 6], [7]],
    ...     responses=[[8, 2], [9, 9, 9, 9]],
    ...     share=0.0,
    ...     batch_size=2,
    ...     max_length=4,
    ...     end_token_id=2,
    ... )
    >>> data.set_epoch(0)
    >>> x, y, sample_weight = data[0]
    >>> x["token_ids"].tolist()
    [[5, 6, 8, 2], [7, 9, 9, 9]]
    >>> y.tolist()
    [[6, 8, 2, 0], [9, 9, 9, 9]]
    >>> sample_weight.tolist()
    [[0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]]

    References: Agarwal et al., 2023, "On-Policy Distillation of Language
    Models: Learning from Self-Generated Mistakes" (GKD), arXiv 2306.13649. Ko
    et al., 2025, "DistiLLM-2: A Contrastive Approach Boosts the Distillation
    of LLMs", arXiv 2503.07067. Kim and Rush, 2016, "Sequence-Level Knowledge
    Distillation", arXiv 1606.07947.
    """

    def __init__(
        self,
        prompts,
        responses=None,
        *,
        writer=None,
        share=None,
        batch_size=8,
        max_length=None,
        steps=None,
        refresh_every=1,
        sampler="random",
        seed=0,
        folder=None,
        end_token_id=None,
        ignore_class=None,
        columns=None,
    ):
        super().__init__()
        self.share = _checked_share(share, writer, responses)
        self.batch_size = integer(batch_size, "batch_size")
        self.seed = integer(seed, "seed", least=0)
        self.refresh_every = None
        if refresh_every is not None:
            self.refresh_every = integer(refresh_every, "refresh_every")
        self.ignore_class = ignore_class
        self.folder = None if folder is None else pathlib.Path(folder)
        preprocessor = getattr(writer, "preprocessor", None)
        ends = end_tokens(end_token_id, preprocessor)
        self.max_length = length_of(writer, max_length)
        self._read(prompts, responses, preprocessor, ends[0])
        self.columns = _checked_columns(columns, len(self.prompts))
        all_once = -(-len(self.prompts) // self.batch_size)
        self.steps = integer(all_once if steps is None else steps, "steps")
        self.writer = writer
        self._write = None
        if writer is not None:
            self._write = Writer(
                writer, sampler, self.max_length, self.batch_size, ends
            )
        self._refresh = self._epoch = None
        self._epoch_is_set = False
        self._empty()

    def _read(self, prompts, responses, preprocessor, end_token):
        self._pad = pad_token(preprocessor)
        self.prompts = prompt_tokens(prompts, preprocessor, self.max_length)
        self.responses = None
        if responses is not None:
            self.responses = response_tokens(
                responses, preprocessor, end_token, self.prompts
            )

    # --- what Keras reads ---------------------------------------------------

    @property
    def num_batches(self):
        return self.steps

    def __getitem__(self, index):
        buffer = self._buffer
        rows = self._order[index * self.batch_size :][: self.batch_size]
        prompts = buffer.rows[rows]
        prompt_lengths = np.array([len(self.prompts[n]) for n in prompts])
        x, y, weight = packed_batch(
            buffer.tokens[rows], prompt_lengths, buffer.lengths[rows], self._pad
        )
        written = buffer.written[rows, None]
        if 0 < self.share < 1:
            x["written_mask"] = x["padding_mask"] & written
            x["given_mask"] = x["padding_mask"] & ~written
        for name, column in self.columns.items():
            x[name] = column[prompts]
        if self.ignore_class is not None:
            y = np.where(written & (weight > 0), self.ignore_class, y)
        return x, y.astype("int32"), weight

    def set_epoch(self, epoch):
        """Generates the texts of an epoch; `Distiller.fit` calls it.

        Until it is called, batches hold only prompts, with weights of 0.

        Args:
            epoch: integer, the epoch's number, counted from 0.

        Raises:
            ValueError: `folder` has the texts of another run.
        """
        self._began, self._seconds = time.perf_counter(), 0.0
        self._epoch_is_set = True
        refresh = epoch // self.refresh_every if self.refresh_every else 0
        goes_on = refresh == self._refresh
        if self.refresh_every:  # An earlier epoch is from another `fit`.
            goes_on = goes_on and epoch > self._epoch
        self._wrote = not goes_on
        if not goes_on:
            self._fill(refresh, is_first=not epoch % (self.refresh_every or 1))
            self._seconds = time.perf_counter() - self._began
        self._epoch = epoch
        self._order = self._random(ORDER, epoch).permutation(self._samples)

    def on_epoch_begin(self):
        if not self._epoch_is_set:  # As in `fit` of a plain Keras model.
            self.set_epoch(0 if self._epoch is None else self._epoch + 1)
        self._epoch_is_set = False

    def epoch_logs(self):
        """The numbers that `fit` logs for the epoch, a dict."""
        written = self._buffer.written
        if not written.any():
            return {}
        prompts = [len(self.prompts[n]) for n in self._buffer.rows[written]]
        lengths = self._buffer.lengths[written] - prompts
        seconds = time.perf_counter() - self._began
        return {
            "generated_texts": float(self._wrote * np.sum(written)),
            "generated_length": float(np.mean(lengths)),
            "generated_ended": float(np.mean(self._buffer.ended[written])),
            "generation_time": self._seconds / seconds,
        }

    # --- the buffer ---------------------------------------------------------

    @property
    def _samples(self):
        return self.steps * self.batch_size

    def _random(self, *stream):
        return np.random.default_rng([self.seed, *stream])

    def _rows(self, refresh):
        """The prompts of a buffer: all in turn, in a new order each time."""
        count = len(self.prompts)
        begin = refresh * self._samples
        passes = range(begin // count, (begin + self._samples - 1) // count + 1)
        orders = [self._random(PROMPTS, n).permutation(count) for n in passes]
        return np.concatenate(orders)[begin % count :][: self._samples]

    def _empty(self):
        """Makes a buffer of prompts only, which shows Keras the shapes."""
        rows = self._rows(0)
        nothing = np.zeros(len(rows), bool)
        self._buffer = _Buffer(rows, *self._prompts_of(rows), nothing, nothing)
        self._order = np.arange(len(rows))

    def _prompts_of(self, rows, responses=None):
        """Tokens and lengths of some prompts, with responses if any."""
        tokens = np.zeros((len(rows), self.max_length + 1), "int32")
        lengths = np.zeros(len(rows), "int32")
        for place, row in enumerate(rows):
            text = self.prompts[row]
            if responses is not None:
                text = np.concatenate([text, responses[row]])
            text = text[: self.max_length + 1]
            tokens[place, : len(text)] = text
            lengths[place] = len(text)
        return tokens, lengths

    def _fill(self, refresh, is_first):
        rows = self._rows(refresh)
        order = self._random(WRITTEN, refresh).permutation(len(rows))
        written = order < round(self.share * len(rows))
        tokens, lengths = self._prompts_of(rows, self.responses)
        ended = np.zeros(len(rows), bool)
        if written.any():
            new = self._restored(refresh, is_first)
            if new is None:
                prompts = [self.prompts[row] for row in rows[written]]
                seed = [self.seed, SAMPLING, refresh]
                new = self._write(prompts, seed)
                self._keep(refresh, new)
            tokens[written, :-1], lengths[written], ended[written] = new
        self._buffer = _Buffer(rows, tokens, lengths, written, ended)
        self._refresh = refresh

    # --- what is kept in a folder -------------------------------------------

    def _settings(self):
        """A fingerprint of the settings that the generated texts depend on."""
        numbers = [self.seed, self._samples, self.share, self.max_length]
        numbers += [self.refresh_every, *self._write.settings()]
        return digest([repr(numbers).encode()], self.prompts)

    def _keep(self, refresh, new):
        if self.folder is None:
            return
        names = "tokens", "lengths", "ended"
        values = {
            "refresh": np.int64(refresh),
            "settings": self._settings(),
            "writer": fingerprint(self.writer),
            **dict(zip(names, new)),
        }
        write_arrays(self.folder / FILE, values)

    def _restored(self, refresh, is_first):
        """The texts of a run that was interrupted; None if there are none."""
        path = self.folder and self.folder / FILE
        if not path or not path.exists():
            return None
        damaged = f"The texts in {str(path)!r} are damaged. Remove the file."
        with opened_arrays(path, damaged) as read:
            kept = self._kept(path, read)
        # In a buffer's later epochs the student has changed since.
        same = self.refresh_every and not is_first
        same = same or np.array_equal(kept["writer"], fingerprint(self.writer))
        if kept["refresh"] != refresh or not same:
            return None
        self._check_kept(kept, damaged)
        return kept["tokens"], kept["lengths"], kept["ended"]

    def _kept(self, path, read):
        """The content of a file, if it is of this run."""
        settings = self._settings()
        if not np.array_equal(read("settings", settings.shape, "u1"), settings):
            raise ValueError(
                f"The texts in {str(path)!r} are of another run: its prompts, "
                "share, steps, lengths, sampler or seed differ. Received: "
                f"folder={str(self.folder)!r}. Remove the file, or give "
                "another folder."
            )
        count = round(self.share * self._samples)
        return {
            "refresh": read("refresh", (), "int64"),
            "writer": read("writer", (32,), "u1"),
            "tokens": read("tokens", (count, self.max_length), "int32"),
            "lengths": read("lengths", (count,), "int32"),
            "ended": read("ended", (count,), "bool"),
        }

    def _check_kept(self, kept, damaged):
        lengths, tokens = kept["lengths"], kept["tokens"]
        outside = (lengths < 1) | (lengths > self.max_length)
        if outside.any() or (tokens < 0).any():
            raise ValueError(
                f"{damaged} Received: lengths of {lengths.min()} to "
                f"{lengths.max()}, and tokens from {tokens.min()} on."
            )


def _checked_share(share, writer, responses):
    if share is None:
        share = 1.0 if responses is None else 0.5
    share = number(share, "share", least=0.0, most=1.0)
    if share < 1.0 and responses is None:
        raise ValueError(
            "Samples that are not generated need a response: in a prompt "
            f"alone no label counts. Received: share={share} without "
            "`responses`. Pass `responses=`, or `share=1.0`."
        )
    if share and writer is None:
        raise ValueError(
            "A model must generate the texts. Received: "
            f"share={share}, writer=None. Pass `writer=student`, or "
            "`share=0.0` for the given responses only."
        )
    return share


def _checked_columns(columns, samples):
    columns = {
        name: np.asarray(values) for name, values in (columns or {}).items()
    }
    for name, values in columns.items():
        if len(values) != samples:
            raise ValueError(
                "Each of `columns` must have one entry for each prompt. "
                f"Received: {name!r} of {len(values)} entries, for {samples} "
                "prompts."
            )
    return columns

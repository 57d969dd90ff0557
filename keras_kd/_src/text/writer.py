"""Writer: generates texts with a causal LM's compiled `generate`."""

import contextlib

import numpy as np
from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import received

RANDOM_SEEDS = 2**31  # Seeds below this are valid on all backends.


class Writer:
    """Generates texts with a task; its sampler and function are not changed.

    All batches have one shape, so that it compiles only once. Each call uses
    the task's current weights.

    Args:
        task: a KerasHub `CausalLM`.
        sampler: name of a KerasHub sampler, or the sampler itself.
        length: tokens of a prompt and its response together.
        batch_size: how many texts are generated at once.
        ends: tuple of the tokens that end a text.
    """

    def __init__(self, task, sampler, length, batch_size, ends):
        self.task, self.length, self.batch_size = task, length, batch_size
        self.ends, self.sampler = ends, _sampler(sampler)
        # No end token, as a shorter text would then seem to have ended.
        self.fill = next(n for n in range(len(ends) + 1) if n not in ends)
        self.function = None

    def __call__(self, prompts, seed):
        """Continues prompts.

        Args:
            prompts: list of arrays of tokens.
            seed: list of non-negative integers.

        Returns:
            `(tokens, lengths, ended)`: prompts with responses `(n, length)`;
            how many tokens each has; whether its last is an end token.
        """
        tokens = np.full((len(prompts), self.length), self.fill, "int32")
        lengths = np.array([len(prompt) for prompt in prompts], "int32")
        for row, prompt in zip(tokens, prompts):
            row[: len(prompt)] = prompt
        random = np.random.default_rng(seed)
        with self._lent() as generate:
            for begin in range(0, len(prompts), self.batch_size):
                rows = slice(begin, begin + self.batch_size)
                self._seed(random)
                tokens[rows] = self._batch(
                    generate, tokens[rows], lengths[rows]
                )
        return (tokens, *self._ends(tokens, lengths))

    def settings(self):
        """What the generated texts depend on, besides the task's weights."""
        sampler = self.sampler
        config = sampler.get_config() if hasattr(sampler, "get_config") else {}
        return [self.ends, type(sampler).__name__, sorted(config.items())]

    def _batch(self, generate, tokens, lengths):
        """One batch, the last filled up with its first row."""
        missing = self.batch_size - len(tokens)
        rows = np.pad(np.arange(len(tokens)), (0, missing))
        mask = np.arange(self.length) < lengths[rows, None]
        inputs = {"token_ids": tokens[rows], "padding_mask": mask}
        inputs = {k: ops.convert_to_tensor(v) for k, v in inputs.items()}
        written = generate(inputs, stop_token_ids=self.ends)["token_ids"]
        return ops.convert_to_numpy(written)[: len(tokens)]

    def _ends(self, tokens, prompt_lengths):
        new = np.arange(self.length) >= prompt_lengths[:, None]
        ends = np.isin(tokens, self.ends) & new
        ended = ends.any(axis=1)
        first = ends.argmax(axis=1) + 1
        return np.where(ended, first, self.length).astype("int32"), ended

    def _seed(self, random):
        for variable in getattr(self.sampler, "variables", ()):
            seeds = random.integers(RANDOM_SEEDS, size=tuple(variable.shape))
            variable.assign(seeds.astype(variable.dtype))

    @contextlib.contextmanager
    def _lent(self):
        """The compiled function with this sampler; restores the task's own."""
        task = self.task
        compiled = hasattr(task, "sampler")
        own = compiled and (task.sampler, task.generate_function)
        task.sampler, task.generate_function = self.sampler, self.function
        try:
            yield task.make_generate_function()
        finally:
            self.function = task.generate_function
            if compiled:
                task.sampler, task.generate_function = own


def length_of(task, max_length):
    """How many tokens a prompt and its response have together.

    Args:
        task: the task that generates, or None.
        max_length: the user's argument; None for the preprocessor's length.

    Raises:
        ValueError: the task can't generate; the length is not known, or
            exceeds the model's positions.
    """
    if task is not None and not hasattr(task, "make_generate_function"):
        raise ValueError(
            "A task that generates texts must be a KerasHub `CausalLM`, with "
            f"its compiled `generate`. {received('task', task)}"
        )
    if max_length is None:
        preprocessor = getattr(task, "preprocessor", None)
        max_length = getattr(preprocessor, "sequence_length", None)
    length = integer(max_length, "max_length", least=2)
    backbone = getattr(task, "backbone", None)
    most = getattr(backbone, "max_sequence_length", None)
    if most is not None and length > most:
        raise ValueError(
            "A text must not be longer than the model's positions. "
            f"Received: max_length={length}, and a task of {most} positions. "
            f"Pass `max_length={most}` or less."
        )
    return length


def _sampler(sampler):
    if not isinstance(sampler, str):
        return sampler
    import keras_hub

    return keras_hub.samplers.get(sampler)

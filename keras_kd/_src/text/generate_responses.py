"""generate_responses: has a teacher respond to prompts, once."""

from keras_kd._src.arguments import integer
from keras_kd._src.text.tokens import end_tokens
from keras_kd._src.text.tokens import prompt_tokens
from keras_kd._src.text.writer import Writer
from keras_kd._src.text.writer import length_of


def generate_responses(
    task,
    prompts,
    *,
    batch_size=8,
    max_length=None,
    sampler="random",
    seed=0,
    end_token_id=None,
):
    """Has a language model respond to prompts: sequence-level KD (SeqKD).

    A student that is trained on what its teacher writes, in the place of the
    data's own responses, has targets that are simpler than people's. For
    texts of the teacher once and of the student again and again (DistiLLM-2),
    the result is the `responses` of `GeneratedTexts`:

        responses = generate_responses(teacher, prompts, max_length=256)
        data = GeneratedTexts(prompts, responses, writer=student, ...)

    A response that reaches `max_length` is cut there and has no end token, so
    that nobody learns to end a text in the middle. The task's own sampler and
    its compiled `generate` are left as they are.

    Args:
        task: a KerasHub `CausalLM`.
        prompts: list of texts, or of sequences of tokens.
        batch_size: how many are written at once.
        max_length: tokens of a prompt with its response; that of the task's
            preprocessor by default.
        sampler: name of a sampler or a sampler of `keras_hub.samplers`, such
            as `"beam"` for the teacher's most likely text.
        seed: non-negative integer.
        end_token_id: the token (or tokens) that end a text; those of the
            task's preprocessor by default.

    Returns:
        List of arrays of tokens, with the end token where a response has one.

    Raises:
        ValueError: the task can't generate, or has no preprocessor for texts;
            a prompt is empty or too long.

    Example:
    >>> import numpy as np
    >>> class Counting:  # Stands for a KerasHub task.
    ...     def make_generate_function(self):
    ...         return self.count
    ...     def count(self, inputs, stop_token_ids):
    ...         tokens = keras.ops.convert_to_numpy(inputs["token_ids"])
    ...         return {"token_ids": tokens[:, :1] + np.arange(4)}
    >>> import keras
    >>> import keras_kd as kd
    >>> responses = kd.text.generate_responses(
    ...     Counting(), [[5], [7]], max_length=4, sampler=None, end_token_id=9
    ... )
    >>> [response.tolist() for response in responses]
    [[6, 7, 8], [8, 9]]

    Reference: Kim and Rush, 2016, "Sequence-Level Knowledge Distillation",
    arXiv 1606.07947.
    """
    length = length_of(task, max_length)
    preprocessor = getattr(task, "preprocessor", None)
    ends = end_tokens(end_token_id, preprocessor)
    tokens = prompt_tokens(prompts, preprocessor, length)
    size = integer(batch_size, "batch_size")
    seed = integer(seed, "seed", least=0)
    writer = Writer(task, sampler, length, size, ends)
    texts, lengths, _ = writer(tokens, [seed])
    return [
        text[len(prompt) : n] for text, prompt, n in zip(texts, tokens, lengths)
    ]

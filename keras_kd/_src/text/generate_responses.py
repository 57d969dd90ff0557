"""generate_responses: a teacher's responses to prompts, generated once."""

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
    """SeqKD: generates a language model's responses to prompts.

    In sequence-level distillation the student is trained on responses that its
    teacher generated, in place of those in the data: such targets are easier
    to learn than texts written by people. With DistiLLM-2 the teacher's
    responses are generated once, and the student's again and again; pass the
    result to `GeneratedTexts` as `responses`:

        responses = generate_responses(teacher, prompts, max_length=256)
        data = GeneratedTexts(prompts, responses, writer=student, ...)

    A response that reaches `max_length` is truncated and gets no end token, so
    that the student isn't trained to end a text in the middle. The task's own
    sampler and its compiled `generate` are not changed.

    Args:
        task: a KerasHub `CausalLM`.
        prompts: list of texts, or of token sequences.
        batch_size: integer, how many responses are generated at once.
        max_length: integer, tokens of a prompt and its response together; by
            default that of the task's preprocessor.
        sampler: name of a KerasHub sampler, or an instance from
            `keras_hub.samplers`, such as `"beam"` for the most likely text.
        seed: non-negative integer.
        end_token_id: integer or list of integers, the tokens that end a text;
            by default those of the task's preprocessor.

    Returns:
        List of int32 arrays, each with a response's tokens, and the end token
        if it has one.

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

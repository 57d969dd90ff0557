"""Prompts and responses as tokens, and batches of them for a causal LM."""

import numbers

import numpy as np

from keras_kd._src.cache.to_numpy import to_numpy


def prompt_tokens(prompts, preprocessor, max_length):
    """Prompts as arrays of tokens, each with room for one more.

    Args:
        prompts: texts, or sequences of tokens.
        preprocessor: the task's, for texts; may be None for tokens.
        max_length: tokens of a prompt and its response together.

    Raises:
        ValueError: there are no prompts; one is empty, or too long.
    """
    _check_list(prompts, "prompts")
    if _are_texts(prompts):
        _check_preprocessor(preprocessor, "prompts")
        packed = preprocessor.generate_preprocess(
            list(prompts), sequence_length=max_length
        )
        tokens, mask = map(
            to_numpy, (packed["token_ids"], packed["padding_mask"])
        )
        found = [row[valid] for row, valid in zip(tokens, mask)]
    else:
        found = _arrays(prompts, "prompts")
    for place, prompt in enumerate(found):
        if not 0 < len(prompt) < max_length:
            at_least = "at least " if _are_texts(prompts) else ""
            raise ValueError(
                "A prompt must have one token or more, and leave room for a "
                f"response in `max_length`. Received: prompt {place} of "
                f"{at_least}{len(prompt)} tokens, max_length={max_length}. "
                "Shorten or leave out such prompts, or raise `max_length` (as "
                "far as the model's positions go)."
            )
    return found


def response_tokens(responses, preprocessor, end_token, prompts):
    """Responses as arrays of tokens; texts get the end token.

    Args:
        responses: texts, or sequences of tokens that have their end token.
        preprocessor: the task's, for texts; may be None for tokens.
        end_token: the end token's id.
        prompts: list of the prompts, one for each response.

    Raises:
        ValueError: prompts and responses differ in number; a response has no
            tokens.
    """
    _check_list(responses, "responses")
    if len(responses) != len(prompts):
        raise ValueError(
            "Arguments `prompts` and `responses` must have the same length. "
            f"Received: {len(prompts)} prompts, {len(responses)} responses."
        )
    if _are_texts(responses):
        _check_preprocessor(preprocessor, "responses")
        found = _ragged(preprocessor.tokenizer(list(responses)))
        return [np.append(row, end_token).astype("int32") for row in found]
    found = _arrays(responses, "responses")
    for place, response in enumerate(found):
        if not len(response):
            raise ValueError(
                "A prompt without a response has no label that counts. "
                f"Received: response {place} of 0 tokens. Leave such samples "
                "out, or have all responses generated: `share=1.0`, without "
                "`responses`."
            )
    return found


def packed_batch(tokens, prompt_lengths, lengths, pad_token):
    """A batch in the form of `CausalLMPreprocessor`, without a loss on prompts.

    Args:
        tokens: integers `(batch, length + 1)`.
        prompt_lengths: how many tokens each prompt has, `(batch,)`.
        lengths: how many tokens prompt and response have, `(batch,)`.
        pad_token: the token that fills the rest.

    Returns:
        `(x, y, sample_weight)`, where `x` has `"token_ids"` and
        `"padding_mask"`; all are `(batch, length)`. The weight is 1 where the
        label is a token of the response or its end token, else 0.
    """
    positions = np.arange(tokens.shape[1])
    mask = positions < lengths[:, None]
    tokens = np.where(mask, tokens, pad_token).astype("int32")
    response = mask & (positions >= prompt_lengths[:, None])
    x = {"token_ids": tokens[:, :-1], "padding_mask": mask[:, :-1]}
    return x, tokens[:, 1:], response[:, 1:].astype("float32")


def _are_texts(sequences):
    return isinstance(sequences[0], (str, np.str_, bytes))


def _check_list(sequences, name):
    lists = isinstance(sequences, (list, tuple, np.ndarray))
    if not lists or not len(sequences):
        raise ValueError(
            f"Argument `{name}` must be a list of texts, or of sequences of "
            f"tokens. Received: {name}={sequences!r}."
        )


def _check_preprocessor(preprocessor, name):
    if preprocessor is None:
        raise ValueError(
            f"Texts need a tokenizer. Received: `{name}` that are texts, and a "
            "writer without a preprocessor. Give the task its preprocessor "
            "(`task.preprocessor = ...`), or give sequences of tokens and "
            "`end_token_id=`."
        )


def _arrays(sequences, name):
    found = [np.asarray(each) for each in sequences]
    for place, row in enumerate(found):
        whole = row.dtype.kind in "iu" or not row.size
        if row.ndim != 1 or not whole:
            raise ValueError(
                f"Argument `{name}` must be texts, or sequences of integers, "
                f"all of one kind. Received: {name}[{place}]="
                f"{sequences[place]!r}."
            )
    return [row.astype("int32") for row in found]


def _ragged(tokens):
    """A tokenizer's tokens of several texts, as a list of sequences."""
    if hasattr(tokens, "to_list"):  # TensorFlow's.
        return tokens.to_list()
    return [np.asarray(to_numpy(row), "int32") for row in tokens]


def end_tokens(end_token_id, preprocessor):
    """The tokens that end a text, as a tuple; the first is the usual one."""
    if end_token_id is None:
        if preprocessor is None:
            raise ValueError(
                "A task that generates texts needs the token that ends one. "
                "Received: a writer without a preprocessor, and "
                "end_token_id=None. Give the task its preprocessor "
                "(`task.preprocessor = ...`), or sequences of tokens and "
                "`end_token_id=`."
            )
        tokenizer = preprocessor.tokenizer
        second = getattr(tokenizer, "end_token2_id", None)  # Llama 3's.
        found = [tokenizer.end_token_id, second]
        return tuple(int(each) for each in found if each is not None)
    one = isinstance(end_token_id, numbers.Integral)
    return tuple(
        int(each) for each in ([end_token_id] if one else end_token_id)
    )


def pad_token(preprocessor):
    """The token that pads a text; 0 where none is specified."""
    tokenizer = getattr(preprocessor, "tokenizer", None)
    return int(getattr(tokenizer, "pad_token_id", None) or 0)

"""causal_lm: a Distiller of language models."""

from keras_kd._src.arguments import number
from keras_kd._src.distillation.distiller import Distiller
from keras_kd._src.distillation.transfer import Transfer
from keras_kd._src.losses.soft_targets import SoftTargets
from keras_kd._src.text.probes import check_same_ids


def causal_lm(
    teacher,
    student,
    loss=None,
    *,
    transfers=(),
    weight=0.5,
    hard_weight=0.5,
    chunk_size=64,
    probe_texts=(),
    name=None,
):
    """A `Distiller` for causal language models (word-level KD).

    The student is trained on the teacher's probabilities of the next token, at
    each position. It is made for KerasHub's `CausalLM`s, but takes any two
    models of tokens that end in a `Dense` layer or a `ReversibleEmbedding`:

        distiller = causal_lm(teacher, student, losses.ReverseKL())
        distiller.compile(
            keras.optimizers.AdamW(2e-5),
            keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, reduction="mean_with_sample_weight"
            ),
            weighted_metrics=[metrics.Perplexity()],
        )
        distiller.fit(texts)

        loss = hard_weight * cross-entropy of the next tokens
             + weight * loss(teacher logits, student logits)
             + transfers

    The student's preprocessor turns texts into tokens, labels (the tokens
    shifted by one) and weights (0 at padding). Your own batches must be
    `({"token_ids", "padding_mask"}, next tokens, weights)`, with weight 0
    where the label is prompt or padding. The reduction above takes the mean
    over the tokens that count, as the other terms do, so that more padding
    changes nothing. For texts that the student writes see
    `text.GeneratedTexts`, for unlike tokenizers `text.PairedTexts`.

    The logits of all tokens (batch x length x vocabulary) are never in memory
    at once: see `losses.ChunkedLogits`.

    Args:
        teacher: a KerasHub `CausalLM`, another model, its cached predictions,
            or a `keras_kd.teachers.Teacher`.
        student: a KerasHub `CausalLM`, or another model.
        loss: the loss between the logits, such as `losses.ReverseKL()` or
            `losses.JensenShannon(0.5)`; by default forward KL,
            `losses.SoftTargets` at temperature 1. Or a `Transfer` of the
            logits, with its own weight, mask or `ignore_class`.
        transfers: further `Transfer`s, such as those of `schemes.layer_map`.
        weight: weight of `loss`, non-negative.
        hard_weight: weight of the compiled loss; 0 for texts that the student
            wrote.
        chunk_size: the number of positions of each sequence whose logits are
            in memory at once; None for all.
        probe_texts: examples of your texts, on which both tokenizers are
            compared besides the built-in examples.
        name: the Distiller's name.

    Returns:
        A `Distiller`, to be compiled and fitted.

    Raises:
        ValueError: the two tokenizers give different tokens, the vocabularies
            differ, or a model's logits can't be computed in chunks.

    Example:
    >>> import keras
    >>> import keras_kd as kd
    >>> def language_model(units):
    ...     tokens = keras.Input((8,), dtype="int32")
    ...     x = keras.layers.Embedding(50, units)(tokens)
    ...     x = keras.layers.GRU(units, return_sequences=True)(x)
    ...     return keras.Model(tokens, keras.layers.Dense(50)(x))
    >>> teacher, student = language_model(16), language_model(4)
    >>> distiller = causal_lm(teacher, student, chunk_size=4)
    >>> [transfer.name for transfer in distiller.transfers]
    ['soft_targets']

    Reference: Kim and Rush, 2016, "Sequence-Level Knowledge Distillation",
    arXiv 1606.07947 (word-level). Agarwal et al., 2023, arXiv 2306.13649.
    """
    weight = number(weight, "weight", least=0.0)
    given = loss.loss if isinstance(loss, Transfer) else loss
    same_tokens = getattr(given, "same_tokens", True)
    shared = same_tokens and _shared_ids(teacher, student, probe_texts)
    if loss is None:
        sizes = {_vocabulary_size(teacher), _vocabulary_size(student)}
        padded = shared and len(sizes) == 2
        classes = {"classes": shared} if padded else {}
        loss = SoftTargets(temperature=1.0, **classes)
    if not isinstance(loss, Transfer):
        loss = Transfer(loss, weight=weight)
    return Distiller(
        teacher,
        student,
        [loss, *transfers],
        hard_weight=hard_weight,
        chunk_size=chunk_size,
        name=name,
    )


def _shared_ids(teacher, student, texts):
    """The number of tokens in common; None if a model has no tokenizer."""
    tokenizers = [_tokenizer(model) for model in (teacher, student)]
    if None in tokenizers:
        return None
    return check_same_ids(*tokenizers, texts)


def _tokenizer(model):
    return getattr(getattr(model, "preprocessor", None), "tokenizer", None)


def _vocabulary_size(model):
    return getattr(getattr(model, "backbone", None), "vocabulary_size", None)

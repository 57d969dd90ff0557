"""Losses and metrics of a step that computes logits in chunks of positions."""

import keras
from keras import ops

from keras_kd._src import keras_compat
from keras_kd._src.keras_compat import get_keras_mask
from keras_kd._src.losses.chunked_logits import PositionTerm
from keras_kd._src.losses.chunked_logits import slice_of
from keras_kd._src.losses.chunked_logits import sums_over_positions
from keras_kd._src.losses.distillation_loss import coefficients
from keras_kd._src.losses.positions import broadcast_weights


def check_chunks(student, transfers):
    """Raises a `ValueError` if student or transfers need all logits at once."""
    if keras_compat.overrides(student, "compute_loss"):
        raise ValueError(
            f"The student {student.name!r} has its own loss, which takes all "
            "logits at once. Received: a student that overrides "
            "`compute_loss`, and `chunk_size`. Leave out `chunk_size`."
        )
    for transfer in transfers:
        if any(tap.path for tap in transfer.student_taps):
            continue
        if transfer.rules:
            raise ValueError(
                f"Transfer {transfer.name!r} has rules, which take all logits "
                f"at once. Received: rules={transfer.rules!r}, and "
                "`chunk_size`. Leave out one of the two."
            )
        if hasattr(transfer.loss, "check_positionwise"):
            transfer.loss.check_positionwise()


def hard_term(loss, labels, logits, sample_weight):
    """The compiled loss of `ChunkedLogits`, a `PositionTerm`.

    Args:
        loss: what was given to `compile`, for one output.
        labels: one per position, or probabilities.
        logits: the student's `ChunkedLogits`.
        sample_weight: one per sample or position, or None.
    """
    loss = _one_loss(loss)
    mask = get_keras_mask(logits)
    mask = None if mask is None else ops.cast(mask, "float32")
    ignored = getattr(loss, "ignore_class", None)
    if ignored is not None:
        known = labels != ops.cast(ignored, labels.dtype)
        known = ops.cast(ops.reshape(known, logits.positions), "float32")
        mask = known if mask is None else known * mask

    def values(_, student, labels):
        labels = ops.convert_to_tensor(labels, dtype=loss.dtype)
        student = ops.convert_to_tensor(student, dtype=loss.dtype)
        return loss.call(labels, student)

    weights = coefficients(loss, logits, sample_weight, mask)
    return PositionTerm(values, None, logits, labels, weights)


def _one_loss(loss):
    given = keras.tree.flatten(loss)
    if len(given) == 1 and isinstance(given[0], keras.losses.Loss):
        return given[0]
    raise ValueError(
        "With `chunk_size` the compiled loss must be one `keras.losses.Loss` "
        f"of logits. Received: loss={loss!r}. Use "
        "`keras.losses.SparseCategoricalCrossentropy(from_logits=True, "
        "reduction='mean_with_sample_weight')`."
    )


def computed(parts, metrics, training):
    """The parts of a loss as scalars, in one pass over the positions.

    Args:
        parts: scalars and `PositionTerm`s.
        metrics: pairs of a `PositionTerm` and a function that takes its value.
        training: whether a gradient is needed.
    """
    terms = [part for part in parts if isinstance(part, PositionTerm)]
    terms += [term for term, _ in metrics]
    if not terms:
        return parts
    values = iter(sums_over_positions(terms, training))
    parts = [
        next(values) if isinstance(part, PositionTerm) else part
        for part in parts
    ]
    for (_, update), value in zip(metrics, values):
        update(value)
    return parts


def update_metrics(model, labels, logits, sample_weight):
    """Updates what `compile(metrics=...)` was given, chunk by chunk.

    This can't wait until Keras does it: by then the step has updated the
    weights of the head, which computes the logits.
    """
    metrics = keras_compat.compiled_metrics(model)
    if metrics is None:
        return
    if sample_weight is not None:
        sample_weight = broadcast_weights(sample_weight, logits.positions)
    length, size = logits.hidden.shape[logits.axis], logits.chunk_size
    for start in range(0, length, size) if length else [0]:
        # All at once where the length is known only when the step runs.
        count = min(size, length - start) if length else logits.length
        labels_there, weights_there = (
            None
            if each is None
            else _rows(slice_of(each, logits.axis, start, count), logits)
            for each in (labels, sample_weight)
        )
        rows = ops.reshape(
            logits.logits_at(start, count), (-1, logits.shape[-1])
        )
        metrics.update_state(labels_there, rows, weights_there)


def _rows(tensor, logits):
    """A tensor with one axis for all positions.

    Keras' metrics average over the positions of a sample first, which would
    give the last, shorter chunk the weight of a whole one.
    """
    return ops.reshape(tensor, (-1, *tensor.shape[logits.axis + 1 :]))

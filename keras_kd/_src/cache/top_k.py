"""TopK: the likeliest classes, and one value for the others."""

import numpy as np
from keras import ops

from keras_kd._src.cache.record_size import bytes_of
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.top_k_targets import log_of_others

_LOWEST = float(np.finfo("float16").min)


class TopK:
    """The likeliest classes' log-probabilities, and one value for the others.

    For logits of many classes: 32 of 1000 classes take 130 bytes, dense
    float16 2000. The other classes share one log-probability, such that at
    `temperature` their mass is the teacher's own: nothing is left over or
    renormalised there, and near there little. So any loss of logits at any
    temperature may be trained with it. Which of the others is likelier is
    lost: with few classes, or at a high temperature, that is much of what a
    teacher tells (`cache.plan` says how much, in nats). Logits are kept up to
    their offset, of which soft targets know nothing, but `LogitMatching` does:
    store `Dense` for that.

        value_i = log_softmax(logits)_i for the k largest
        rest = T * (logsumexp_others(log_softmax(logits) / T) - log(K - k))

    Args:
        k: how many classes to keep, less than there are.
        temperature: T at which the left-over mass is exact: that of the
            training to come, or the lowest of them.

    Raises:
        ValueError: an argument isn't positive; `k` classes or fewer; the
            teacher tells probabilities.

    Example:
    >>> TopK(32).bytes_per_sample((1000,))
    130
    """

    kind = "top_k"
    needs_samples = False

    def __init__(self, k, temperature=1.0):
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(
                "Argument `k` must be a positive integer, the number of "
                f"classes to keep. Received: k={k!r}."
            )
        if not temperature > 0:
            raise ValueError(
                "Argument `temperature` must be positive. Received: "
                f"temperature={temperature!r}."
            )
        self.k = k
        self.temperature = float(temperature)

    def fields(self, shape):
        *places, classes = shape
        if self.k >= classes:
            raise ValueError(
                f"Top-k needs more classes than it keeps. Received: k={self.k}"
                f", and a view of shape {tuple(shape)}, so {classes} classes. "
                "Lower k, or store `cache.Dense()`."
            )
        return {
            "indices": np.dtype((smallest_integer(classes), (*places, self.k))),
            "values": np.dtype(("<f2", (*places, self.k))),
            "rest": np.dtype(("<f2", tuple(places))),
        }

    def prepare(self, view):
        (view,) = in_full_precision(view)
        classes = view.shape[-1]
        log_probs = ops.log_softmax(view, axis=-1)
        values, indices = ops.top_k(log_probs, self.k)
        indices = ops.cast(indices, "int32")
        tempered = log_probs / self.temperature
        of_others = log_of_others(tempered, indices) - np.log(classes - self.k)
        rest = self.temperature * of_others
        told = {"indices": indices, "values": values, "rest": rest}
        return {**told, "like_probabilities": _like_probabilities(view)}

    def calibrate(self, prepared):
        return {}

    def pack(self, prepared, constants):
        if prepared["like_probabilities"].all():
            raise ValueError(
                "Top-k stores logits, and what the teacher told looks like "
                "probabilities. Received: values from 0 to 1, and rows that "
                "sum to 1. Store what goes into the softmax, as in "
                '`outputs={"logits": cache.TopK(...)}`; or all of it, with '
                '`cache.Dense("float32")`, for a loss with '
                "`teacher_from_logits=False`."
            )
        # A lower log-probability than float16 has is as good as none.
        return {
            "indices": prepared["indices"],
            "values": np.maximum(prepared["values"], _LOWEST),
            "rest": np.maximum(prepared["rest"], _LOWEST),
        }

    def unpack(self, fields, constants):
        # PyTorch has no operations on unsigned integers.
        return {**fields, "indices": fields["indices"].astype("int32")}

    def restore(self, carried, shape):
        *places, classes = shape
        if not places:
            return self._rows(carried, classes)
        # Such as tokens: a row for each.
        flat = {
            name: ops.reshape(values, (-1, *values.shape[len(shape) :]))
            for name, values in carried.items()
        }
        return ops.reshape(self._rows(flat, classes), (-1, *shape))

    def _rows(self, carried, classes):
        rest = ops.cast(carried["rest"], "float32")[:, None]
        count = ops.shape(rest)[0]
        rows = ops.arange(count, dtype="int32")[:, None]
        rows = ops.broadcast_to(rows, (count, self.k))
        places = ops.stack([rows, carried["indices"]], axis=-1)
        return ops.scatter_update(
            ops.broadcast_to(rest, (count, classes)),
            ops.reshape(places, (-1, 2)),
            ops.reshape(ops.cast(carried["values"], "float32"), (-1,)),
        )

    def bytes_per_sample(self, shape):
        return bytes_of(self.fields(shape))

    def get_config(self):
        return {"k": self.k, "temperature": self.temperature}


def _like_probabilities(view):
    in_range = ops.all(view >= 0.0, axis=-1)
    sum_to_one = ops.abs(ops.sum(view, axis=-1) - 1.0) < 1e-2
    return ops.logical_and(in_range, sum_to_one)


def smallest_integer(classes):
    """The smallest unsigned integer type that holds the numbers of classes.

    Example:
    >>> smallest_integer(256), smallest_integer(257)
    ('<u1', '<u2')
    """
    for bits in (8, 16):
        if classes <= 2**bits:
            return f"<u{bits // 8}"
    return "<u4"

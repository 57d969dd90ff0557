"""Encodings: how a teacher's predictions are stored, and restored."""

import ml_dtypes
import numpy as np
from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import number
from keras_kd._src.arguments import one_of
from keras_kd._src.backend import put_in_rows
from keras_kd._src.losses.distillation_loss import in_full_precision
from keras_kd._src.losses.top_k_targets import log_of_others

# NumPy's file format has no bfloat16: its bits are stored as integers.
STORED_TYPES = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}
LOWEST = float(np.finfo("float16").min)


class Encoding:
    """A way to store one output of a teacher, in five steps.

    `prepare` and `calibrate`, then `pack` write; `unpack` and `restore` read.
    """

    kind = None  # Its name in a cache's files.
    needs_samples = False  # Whether there is something to calibrate.

    def fields(self, shape):
        """`name -> dtype` of a record's fields, for an output of `shape`."""
        raise NotImplementedError

    def prepare(self, output):
        """Reduces an output to what is kept; runs on the teacher's device."""
        return {"values": ops.cast(output, "float32")}

    def calibrate(self, prepared):
        """The constants that all samples of a part share, such as scales."""
        return {}

    def pack(self, prepared, constants):
        """Turns prepared values into the fields that are written to disk."""
        raise NotImplementedError

    def unpack(self, fields, constants):
        """Turns fields that were read from disk into what a batch carries."""
        raise NotImplementedError

    def outside(self, fields, shape):
        """A text that names an impossible value in a batch, or None."""
        return None

    def finite(self, fields):
        """Whether all stored values are finite."""
        kinds = [
            values for values in fields.values() if values.dtype.kind == "f"
        ]
        return all(np.isfinite(values).all() for values in kinds)

    def restore(self, carried, shape):
        """The output, from what a batch carries; runs in the student's step."""
        return ops.cast(carried["values"], "float32")

    def bytes_per_sample(self, shape):
        """Bytes of one sample's output; its record has 8 more for its index.

        Args:
            shape: the output's shape without the batch axis.
        """
        return sum(dtype.itemsize for dtype in self.fields(shape).values())


class Dense(Encoding):
    """Stores all values of an output as floating-point numbers.

    For logits of few classes, embeddings and feature maps. float16 keeps
    three digits of values up to 65,504; bfloat16 keeps two digits of values of
    any size; float32 keeps a float32 teacher's predictions bit for bit.

        stored = round_to(dtype, value)

    Args:
        dtype: `"float16"`, `"bfloat16"` or `"float32"`.

    Raises:
        ValueError: `dtype` is another type; or, while writing, a value is too
            large for it.

    Example:
    >>> Dense("float16").bytes_per_sample((10,))
    20
    """

    kind = "dense"

    def __init__(self, dtype="float16"):
        self.dtype = one_of(dtype, "dtype", tuple(STORED_TYPES))

    def fields(self, shape):
        return {"values": np.dtype((STORED_TYPES[self.dtype], tuple(shape)))}

    def pack(self, prepared, constants):
        values = prepared["values"]
        with np.errstate(over="ignore"):
            packed = values.astype(getattr(ml_dtypes, self.dtype, self.dtype))
        if not np.isfinite(packed).all():
            largest = float(np.abs(values).max())
            raise ValueError(
                f"A value of the teacher is too large for {self.dtype}. "
                f"Received: {largest:.6g}. Store it as "
                "`cache.Dense('bfloat16')` or `cache.Dense('float32')`."
            )
        return {"values": packed.view(STORED_TYPES[self.dtype])}

    def unpack(self, fields, constants):
        values = fields["values"]
        if self.dtype == "bfloat16":  # PyTorch takes none from NumPy.
            values = (values.astype("uint32") << 16).view("float32")
        return {"values": values}

    def finite(self, fields):
        return np.isfinite(self.unpack(fields, {})["values"]).all()

    def get_config(self):
        return {"dtype": self.dtype}


class Int8(Encoding):
    """Stores integers from -127 to 127, with one scale for each channel.

    For feature maps, hidden states and embeddings, in a quarter of float32's
    bytes. Channels are the last axis. A channel's scale is its largest absolute
    value among 512 samples (spread over the data if it is an array, else the
    first ones), divided by 127. Larger values are clipped.

        stored = clip(round(value / scale_channel), -127, 127)
        value = stored * scale_channel

    Args:
        scale: positive numbers, one for each channel; None measures them.

    Raises:
        ValueError: a scale isn't positive, or there isn't one for each channel.

    Example:
    >>> Int8().bytes_per_sample((7, 7, 512))
    25088
    """

    kind = "int8"
    needs_samples = True

    def __init__(self, scale=None):
        self.scale = scale if scale is None else [float(s) for s in scale]
        if scale is not None and not all(1e-38 < s < 3e38 for s in self.scale):
            raise ValueError(
                "Argument `scale` must be positive numbers, one for each "
                f"channel. Received: scale={scale!r}."
            )

    def fields(self, shape):
        channels = tuple(shape[-1:])  # None where an output is one number.
        scales = channels if self.scale is None else (len(self.scale),)
        if not channels or scales != channels:
            raise ValueError(
                "Int8 has a scale for each channel, the last axis of an "
                f"output. Received: an output of shape {tuple(shape)}, and "
                f"scale={self.scale}. Give one scale for each channel, or "
                "store `cache.Dense()`."
            )
        return {"values": np.dtype(("i1", tuple(shape)))}

    def calibrate(self, prepared):
        if self.scale is not None:
            return {"scale": self.scale}
        values = np.abs(prepared["values"])
        largest = values.max(axis=tuple(range(values.ndim - 1)))
        # A channel that is always 0 needs a scale, too.
        scale = np.where(largest > 1e-35, largest / 127, 1.0)
        return {"scale": scale.astype("float32").tolist()}

    def pack(self, prepared, constants):
        scale = np.asarray(constants["scale"], "float32")
        scaled = np.rint(prepared["values"] / scale)
        return {"values": np.clip(scaled, -127, 127)}

    def unpack(self, fields, constants):
        scale = np.asarray(constants["scale"], "float32")
        return {"values": fields["values"] * scale}

    def get_config(self):
        return {"scale": self.scale}


class TopK(Encoding):
    """Stores the k largest log-probabilities, and one value for the rest.

    For logits of many classes: the top 32 of 1000 classes take 130 bytes,
    where `Dense("float16")` takes 2000.

    All other classes share one log-probability. It is chosen such that at
    `temperature` their total probability equals the teacher's, so nothing is
    lost or renormalized there, and little at temperatures near it. Any loss on
    logits can be trained with it, at any temperature. Which of the other
    classes is likelier is lost: with few classes, or at a high temperature,
    that is much of the dark knowledge (`cache.plan` measures it as a KL
    divergence in nats).

    Logits are stored up to an additive constant. Soft targets do not depend on
    it, but `LogitMatching` does: store `Dense` for that loss.

    For a language model the classes are the vocabulary, and the bytes are for
    each token: the top 32 of 128,000 take 194 bytes, of 32,000 130 bytes.
    `TopKTargets(k)` compares the k classes, and all others as one;
    `SoftTargets` compares all classes as if the others were equally likely.

        value_i = log_softmax(logits)_i for the k largest
        rest = T * (logsumexp_others(log_softmax(logits) / T) - log(K - k))

    Args:
        k: integer, how many classes to keep, less than the number of classes
            K.
        temperature: T at which the total probability of the others is exact:
            the temperature of the training to come, or the lowest of several.

    Raises:
        ValueError: an argument isn't positive; the output has `k` classes or
            fewer; the teacher predicts probabilities.

    Example:
    >>> TopK(32).bytes_per_sample((1000,))
    130
    """

    kind = "top_k"

    def __init__(self, k, temperature=1.0):
        self.k = integer(k, "k")
        self.temperature = number(temperature, "temperature", above=0)

    def fields(self, shape):
        *places, classes = shape
        if self.k >= classes:
            raise ValueError(
                f"Top-k needs more classes than it keeps. Received: k={self.k}"
                f", and an output of shape {tuple(shape)}, so {classes} "
                "classes. Lower k, or store `cache.Dense()`."
            )
        smallest = np.min_scalar_type(classes - 1).newbyteorder("<")
        return {
            "indices": np.dtype((smallest, (*places, self.k))),
            "values": np.dtype(("<f2", (*places, self.k))),
            "rest": np.dtype(("<f2", tuple(places))),
        }

    def prepare(self, output):
        (logits,) = in_full_precision(output)
        classes = logits.shape[-1]
        log_probs = ops.log_softmax(logits, axis=-1)
        values, indices = ops.top_k(log_probs, self.k)
        indices = ops.cast(indices, "int32")
        scaled = log_probs / self.temperature
        of_others = log_of_others(scaled, indices) - np.log(classes - self.k)
        return {
            "indices": indices,
            "values": values,
            "rest": self.temperature * of_others,
            "like_probabilities": _like_probabilities(logits),
        }

    def pack(self, prepared, constants):
        if prepared["like_probabilities"].all():
            raise ValueError(
                "Top-k stores logits, and the teacher's output looks like "
                "probabilities. Received: values from 0 to 1, and rows that "
                "sum to 1. Store what goes into the softmax, as in "
                '`outputs={":logits": cache.TopK(...)}`; or all of it, with '
                '`cache.Dense("float32")`, for a loss with '
                "`teacher_from_logits=False`."
            )
        # A log-probability below float16's range is as good as its minimum.
        return {
            "indices": prepared["indices"],
            "values": np.maximum(prepared["values"], LOWEST),
            "rest": np.maximum(prepared["rest"], LOWEST),
        }

    def outside(self, fields, shape):
        # A scatter operation on a device does not check its indices.
        largest = int(fields["indices"].max(initial=0))
        if largest < shape[-1]:
            return None
        return f"class {largest} of {shape[-1]}"

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
        return put_in_rows(
            ops.broadcast_to(rest, (ops.shape(rest)[0], classes)),
            carried["indices"],
            ops.cast(carried["values"], "float32"),
        )

    def get_config(self):
        return {"k": self.k, "temperature": self.temperature}


def _like_probabilities(logits):
    in_range = ops.all(logits >= 0.0, axis=-1)
    sum_to_one = ops.abs(ops.sum(logits, axis=-1) - 1.0) < 1e-2
    return ops.logical_and(in_range, sum_to_one)


KINDS = {encoding.kind: encoding for encoding in (Dense, TopK, Int8)}


def round_trip(encoding, output):
    """An output `(batch, ...)` after storing and reading it, as float32."""
    shape = output.shape[1:]
    prepared = encoding.prepare(ops.convert_to_tensor(output))
    prepared = {
        name: ops.convert_to_numpy(value) for name, value in prepared.items()
    }
    constants = encoding.calibrate(prepared)
    stored = {
        name: np.asarray(value).astype(encoding.fields(shape)[name].base)
        for name, value in encoding.pack(prepared, constants).items()
    }
    carried = encoding.unpack(stored, constants)
    return ops.convert_to_numpy(encoding.restore(carried, shape))

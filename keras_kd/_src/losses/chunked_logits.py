"""Logits of large vocabularies, computed a few positions at a time."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.keras_compat import MASK
from keras_kd._src.losses.chunk_loop import scan
from keras_kd._src.losses.chunk_loop import value_and_gradient


class ChunkedLogits:
    """Logits computed a few positions at a time, for large vocabularies.

    The logits of a language model (batch x length x vocabulary) are often the
    largest tensor in memory. This object replaces them: it holds the inputs of
    the model's last layer (hidden states), and that layer. Pass it to a loss
    that compares logits position by position (`SoftTargets`, `ReverseKL`,
    `JensenShannon`, `SkewKL`, ...) in place of logits. Logits and their
    gradient are then computed for `chunk_size` positions of each sequence, and
    freed before the next ones. Value and gradient are those of the dense form
    except for rounding, and the number of matrix products is the same.

        logits[:, i:i + chunk_size] = head(hidden[:, i:i + chunk_size])

    `Distiller(..., chunk_size=64)` does this automatically. Gradients reach
    `hidden` and the head's trainable variables.

    Args:
        hidden: the head's inputs, shape `(batch, ..., length, units)`.
        head: a layer that computes logits from them, for each position
            separately, such as `keras.layers.Dense` or a `ReversibleEmbedding`.
        arguments: keyword arguments of the head's call, such as
            `{"reverse": True}`.
        chunk_size: how many positions at a time; the memory needed is about 4
            to 6 times `batch * chunk_size * classes` numbers.

    Attributes:
        shape: shape of the logits, `(batch, ..., length, classes)`.

    Raises:
        ValueError: `hidden` has no axis of positions, or `chunk_size` is not a
            positive integer.

    Example:
    >>> import keras_kd as kd
    >>> head = keras.layers.Dense(10)
    >>> head.build((None, None, 4))
    >>> hidden = keras.random.normal((2, 6, 4), seed=0)
    >>> student = ChunkedLogits(hidden, head, chunk_size=2)
    >>> teacher = ChunkedLogits(2.0 * hidden, head, chunk_size=2)
    >>> loss = kd.losses.SoftTargets(temperature=1.0)
    >>> dense = loss(head(2.0 * hidden), head(hidden))
    >>> ratio = ops.convert_to_numpy(loss(teacher, student) / dense)
    >>> round(float(ratio), 4)
    1.0

    Reference: Wijmans et al., 2024, "Cut Your Losses in Large-Vocabulary
    Language Models", arXiv 2411.09009 (the cross-entropy, by chunks of the
    vocabulary). Hsu et al., 2024, "Liger Kernel", arXiv 2410.10989 (chunks of
    tokens, the gradient taken with the value).
    """

    # Which rows this process computes, if several processes share a batch.
    rows = None

    def __init__(self, hidden, head, *, arguments=None, chunk_size=64):
        self.hidden = ops.convert_to_tensor(hidden)
        self.head = head
        self.arguments = dict(arguments or {})
        self.chunk_size = integer(chunk_size, "chunk_size")
        # Read here: inside the step, variables have the step's values.
        self.values = [ops.convert_to_tensor(v) for v in head.variables]
        if len(self.hidden.shape) < 2:
            raise ValueError(
                "Argument `hidden` of ChunkedLogits must be hidden states of "
                "shape (batch, ..., length, units). Received: hidden of shape "
                f"{tuple(self.hidden.shape)}. Pass the input of the model's "
                "last layer, with an axis of positions."
            )
        self.shape = tuple(
            head.compute_output_shape(self.hidden.shape, **self.arguments)
        )

    @property
    def source(self):
        """What the logits are computed from."""
        return self.hidden

    @property
    def axis(self):
        """The axis of the positions."""
        return len(self.shape) - 2

    @property
    def positions(self):
        """The shape of one value per position."""
        return ops.shape(self.hidden)[:-1]

    @property
    def length(self):
        """How many positions there are."""
        return ops.shape(self.hidden)[self.axis]

    @property
    def trained(self):
        """The indices of the head's variables that are trained."""
        variables = enumerate(self.head.variables)
        return [i for i, variable in variables if variable.trainable]

    def project(self, hidden, trained):
        """The logits of some hidden states.

        Args:
            hidden: the hidden states of some positions.
            trained: values of the variables that are trained.
        """
        values = list(self.values)
        for i, value in zip(self.trained, trained):
            values[i] = value
        mapping = list(zip(self.head.variables, values))
        with keras.StatelessScope(state_mapping=mapping):
            return self.head(hidden, **self.arguments)

    def logits_at(self, start, size):
        """The logits of `size` positions from `start` on."""
        trained = [self.values[i] for i in self.trained]
        return self.project(
            slice_of(self.hidden, self.axis, start, size), trained
        )


def register_with_jax(kind, arrays, rest):
    """Registers a class with JAX, so that a compiled step takes its objects.

    Args:
        kind: the class.
        arrays: names of the attributes that hold arrays.
        rest: names of the others, which are the same for each batch.
    """
    if keras.backend.backend() != "jax":
        return
    import jax

    def flatten(each):
        return [vars(each).get(name) for name in arrays], _Rest(each, rest)

    def unflatten(others, values):
        each = object.__new__(kind)
        vars(each).update(zip(arrays, values), **others.attributes)
        return each

    jax.tree_util.register_pytree_node(kind, flatten, unflatten)


class _Rest:
    """Attributes that JAX compares to decide whether to compile again."""

    def __init__(self, owner, names):
        self.attributes = {name: vars(owner)[name] for name in names}

    def __eq__(self, other):
        return self.attributes == other.attributes

    def __hash__(self):
        return hash(tuple(self.attributes))


register_with_jax(
    ChunkedLogits,
    arrays=("hidden", "values", MASK),
    rest=("head", "arguments", "chunk_size", "shape"),
)


def slice_of(tensor, axis, start, size):
    """A slice of `size` positions along an axis, beginning at `start`."""
    tensor = ops.convert_to_tensor(tensor)
    shape, begin = list(ops.shape(tensor)), [0] * len(tensor.shape)
    shape[axis], begin[axis] = size, start
    return ops.slice(tensor, begin, shape)


class PositionTerm(NamedTuple):
    """A weighted sum over positions whose logits are still to be computed.

        term = sum over positions of coefficient * value

    Attributes:
        function: takes the logits of teacher and student and the labels at some
            positions; returns one value per position.
        teacher: `ChunkedLogits`, or anything else with a method
            `logits_at(start, size)`; a tensor with the same positions; or None.
        student: `ChunkedLogits`.
        labels: one per position, or None.
        coefficients: shape `(batch, ..., length)`, float32.
        trained: whether it is part of the loss.
    """

    function: Callable
    teacher: Any
    student: ChunkedLogits
    labels: Any
    coefficients: Any
    trained: bool = True

    def scaled(self, factor):
        """The term times a number."""
        return self._replace(coefficients=factor * self.coefficients)


def of_rows(terms, rows):
    """The terms at a process's own rows, with zeros for the others."""
    parts = {}

    def own(given):
        if id(given) not in parts:
            if isinstance(given, ChunkedLogits):
                parts[id(given)] = ChunkedLogits(
                    rows.own(given.hidden),
                    given.head,
                    arguments=given.arguments,
                    chunk_size=given.chunk_size,
                )
            else:
                parts[id(given)] = rows.own(given)
        return parts[id(given)]

    counts = 1.0 if rows.share else 0.0
    return [
        term._replace(
            teacher=own(term.teacher),
            student=own(term.student),
            labels=own(term.labels),
            coefficients=counts * own(term.coefficients),
        )
        for term in terms
    ]


def _sums_of_all_rows(terms, training, rows):
    """Sums over the rows of all processes; each adds up its own first."""
    processes = rows.processes
    sums = sums_over_positions(of_rows(terms, rows), training, processes.count)
    total = processes.mean(ops.stack(sums)) * processes.count
    return [
        own + ops.stop_gradient(total[i] - own) for i, own in enumerate(sums)
    ]


def sums_over_positions(terms, training=True, copies=1):
    """The value of each term, a scalar; all in one pass over the positions.

    Args:
        terms: list of `PositionTerm`s of the same student.
        training: whether the values have a gradient: the first has that of the
            sum of all that are `trained`, the others have none.
        copies: the number of processes over which the head's gradient is
            averaged.
    """
    if terms[0].student.rows is not None:
        return _sums_of_all_rows(terms, training, terms[0].student.rows)
    training = training and any(term.trained for term in terms)
    student = terms[0].student
    hidden = ops.stop_gradient(student.hidden)
    trained = [ops.stop_gradient(student.values[i]) for i in student.trained]
    chunks = _Chunks(terms, student.length, student.chunk_size)

    def step(i, state):
        sums, *gradients = state
        start = chunks.start(i)
        given = slice_of(hidden, student.axis, start, chunks.size)
        if not training:
            _, more = chunks.sums([given, *trained], i)
            return [sums + more], []
        more, (of_hidden, *of_trained) = value_and_gradient(
            lambda arrays: chunks.sums(arrays, i), [given, *trained]
        )
        gradients = [
            total + ops.cast(each, "float32")
            for total, each in zip(gradients, of_trained)
        ]
        return [sums + more, *gradients], [ops.cast(of_hidden, "float32")]

    state = [ops.zeros((len(terms),))]
    if training:
        state += [ops.zeros(ops.shape(each), "float32") for each in trained]
    (sums, *gradients), outputs = scan(step, state, chunks.count)
    sums = ops.stop_gradient(sums * chunks.scale)
    sums = [sums[i] for i in range(len(terms))]
    if training:
        arrays = [student.hidden, *(student.values[i] for i in student.trained)]
        gradients = [copies * each for each in gradients]
        gradients = [chunks.joined(outputs[0], student.axis), *gradients]
        sums[0] = sums[0] + _carrier(arrays, gradients, chunks.scale)
    return sums


def _carrier(arrays, gradients, scale):
    """Zero, with these gradients (times `scale`) with respect to the arrays."""
    # Matrix products, which need no memory beyond their inputs.
    linear = scale * sum(
        ops.tensordot(
            ops.cast(array, "float32"),
            ops.stop_gradient(gradient),
            axes=len(array.shape),
        )
        for array, gradient in zip(arrays, gradients)
    )
    return linear - ops.stop_gradient(linear)


class _Chunks:
    """The chunks of some terms' positions.

    All have the same size. The last one begins early enough to be complete;
    its positions that an earlier chunk has already count as 0.
    """

    def __init__(self, terms, length, size):
        self.terms = terms
        self.length = length
        known = isinstance(length, int)
        self.size = min(size, length) if known else ops.minimum(size, length)
        self.count = -(-length // self.size)
        # Otherwise small gradients would underflow in half precision.
        self.scale = ops.stop_gradient(
            ops.max(ops.stack([ops.max(term.coefficients) for term in terms]))
        )

    def start(self, i):
        """Where chunk `i` starts."""
        if isinstance(i, int) and isinstance(self.length, int):
            return min(i * self.size, self.length - self.size)
        return ops.minimum(i * self.size, self.length - self.size)

    def sums(self, arrays, i):
        """For chunk `i`: the sum of the trained terms, and each term's."""
        student = self.terms[0].student
        start, logits = self.start(i), student.project(arrays[0], arrays[1:])
        fresh = ops.arange(self.size) >= i * self.size - start
        teachers, sums = {}, []
        for term in self.terms:
            key = id(term.teacher)
            if key not in teachers:
                teachers[key] = self._of(term.teacher, student.axis, start)
            labels = self._of(term.labels, student.axis, start)
            coefficients = self._of(term.coefficients, student.axis, start)
            coefficients = ops.divide_no_nan(coefficients, self.scale)
            coefficients = ops.where(fresh, coefficients, 0.0)
            values = term.function(teachers[key], logits, labels)
            sums.append(ops.sum(coefficients * ops.cast(values, "float32")))
        total = sum(s for s, term in zip(sums, self.terms) if term.trained)
        return total, ops.stack(sums)

    def _of(self, given, axis, start):
        """The chunk's part of logits or tensors, without a gradient."""
        if given is None:
            return None
        if hasattr(given, "logits_at"):
            return ops.stop_gradient(given.logits_at(start, self.size))
        return keras.tree.map_structure(
            lambda each: ops.stop_gradient(
                slice_of(each, axis, start, self.size)
            ),
            given,
        )

    def joined(self, stacked, axis):
        """Joins the chunks, stacked on a first axis, along the positions."""
        rest = self.length - (self.count - 1) * self.size
        last = slice_of(stacked[-1], axis, self.size - rest, rest)
        first = ops.moveaxis(stacked[:-1], 0, axis)
        shape = list(ops.shape(first))
        shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
        return ops.concatenate([ops.reshape(first, shape), last], axis=axis)

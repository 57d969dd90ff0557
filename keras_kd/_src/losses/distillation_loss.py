"""What all distillation losses share: weights, masks and precision."""

import functools
import inspect

import keras
from keras import ops

from keras_kd._src.arguments import one_of
from keras_kd._src.keras_compat import get_keras_mask
from keras_kd._src.keras_compat import set_keras_mask
from keras_kd._src.losses.chunked_logits import ChunkedLogits
from keras_kd._src.losses.chunked_logits import PositionTerm
from keras_kd._src.losses.chunked_logits import sums_over_positions
from keras_kd._src.losses.positions import at_positions
from keras_kd._src.losses.positions import broadcast_weights
from keras_kd._src.losses.positions import weight_of_samples
from keras_kd._src.losses.positions import without_column
from keras_kd._src.specs import same_shape

# Keywords of `call` that may be left out.
OPTIONAL = ("mask", "temperature", "inputs")
# A class may be masked with float32's lowest number, whose multiples overflow.
# This gives the same probability, 0.
LEAST_LOGIT = -1e30


class DistillationLoss(keras.losses.Loss):
    """Base class of the losses: compares features of teacher and student.

    To write your own, implement `call(teacher_features, student_features)` and
    return one unreduced value per sample (or token, or pixel). The base class
    takes care of the weighted mean, Keras masks, float32 arithmetic under mixed
    precision and scaling with several replicas. Features may be any outputs,
    logits among them.

        value = sum(weight * values) / sum(weight)

    A sample of weight 0 (or a masked token) is therefore absent: the others get
    the loss and the gradient that they would have got without it. With
    `per_sample = True` (one value per sample), the features of absent positions
    are 0 when `call` gets them, and a sample's weight is the mean weight of its
    present positions. Weights of positions (tokens, pixels) are resized by area
    to the size of the features.

    With several replicas (TensorFlow), each takes the mean over its own part of
    a batch, and Keras takes the mean of these. The result is that of one device
    unless the parts' weights have different sums (through weights, masks or
    rules), or samples are compared with each other.

    A `Transfer` passes to `call` what it takes as keyword-only arguments:

    - `labels`, the batch's labels;
    - `sample_weight`, one per sample, for losses that compare samples with each
      other;
    - `mask`, True at positions that count (neither masked nor of weight 0), for
      losses that compare positions with each other. It has the shape of the
      features without their `axis`. If `call` declares `mask=None`, it gets
      None where all positions count;
    - `sample_index`, each sample's index in the data, for losses that store
      something for each sample (see `Distiller` for the form of the data);
    - `training`, whether this is a training step, for losses that store
      something;
    - `inputs`, the batch's inputs as the student gets them (None if the loss is
      used alone), for data with more entries than the models take;
    - `temperature`, one per sample, if a rule sets it; otherwise left out.

    A loss that sets `expects_logits = True` compares logits: it takes the two
    flags below, and `call` gets logits whatever activation the models end in.
    They are the logits of a softmax or, with `activation = "sigmoid"`, of a
    sigmoid.

    A loss with `joint = True` gets the features of all taps at once, as lists.
    Return your own arguments from `options()`, and they are saved with the
    loss; a layer that is an attribute of the loss is saved with the distiller.

    Args:
        teacher_from_logits: False if the teacher's outputs are probabilities
            (it ends in a softmax or sigmoid), which are turned into logits;
            True if they are logits. By default a `Transfer` detects which they
            are, and warns of probabilities; without one they are taken as
            logits. Only for losses that compare logits.
        student_from_logits: likewise for the student's outputs.
        reduction: how the values become one number, as in
            `keras.losses.Loss`. Defaults to `"mean_with_sample_weight"`.
        name: name of the loss.
        dtype: precision of the arithmetic. Defaults to float32 (Keras'
            `floatx`), whatever the precision of the models.

    Call arguments:
        teacher_features: the teacher's, shape `(batch, ...)`.
        student_features: the student's, shape `(batch, ...)`.
        sample_weight: optional, shape `(batch,)` or `(batch, positions...)`.
        mask: optional, which positions count, shape `(batch, positions...)`;
            the Keras mask of the student's features by default, or else of the
            teacher's. For a joint loss, a list with one mask per feature.
        labels, sample_index, training, inputs, temperature: by keyword, where
            `call` names them; `training` is False by default.

    Returns:
        The loss, a scalar unless `reduction` is `None`.

    Raises:
        ValueError: `check_shapes` found features that the loss can't compare; a
            keyword argument that `call` needs is missing; `teacher_from_logits`
            or `student_from_logits` is given to a loss that does not compare
            logits.

    Example:
    >>> class AbsoluteError(DistillationLoss):
    ...     def call(self, teacher_features, student_features):
    ...         error = ops.abs(teacher_features - student_features)
    ...         return ops.mean(error, axis=-1)
    >>> loss = AbsoluteError()
    >>> float(loss([[1.0, 3.0]], [[0.0, 0.0]]))
    2.0
    """

    # True if `call` returns one value per sample whatever the rank, False if
    # it returns one per position (all axes but `axis`).
    per_sample = False
    # True if the features are logits: probabilities are converted to logits.
    expects_logits = False
    # What turns these logits into probabilities, "softmax" or "sigmoid".
    activation = "softmax"
    # False if the two sides have different tokens: classes and positions.
    same_tokens = True
    # True if `call` takes the features of all taps at once, as lists.
    joint = False
    axis = -1

    def __init__(
        self,
        *,
        reduction="mean_with_sample_weight",
        name=None,
        dtype=None,
        **flags,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.teacher_from_logits = flags.pop("teacher_from_logits", None)
        self.student_from_logits = flags.pop("student_from_logits", None)
        check_flags(self, self._flags())
        if flags:
            raise ValueError(
                f"{type(self).__name__} has no such arguments. Received: "
                f"{', '.join(f'{key}={flags[key]!r}' for key in flags)}. Leave "
                "them out, or correct their names."
            )
        parameters = inspect.signature(self.call).parameters
        self._keywords = [
            p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY
        ]
        mask = parameters.get("mask")
        self._needs_mask = mask is not None and mask.default is mask.empty

    def _flags(self):
        flags = {
            "teacher_from_logits": self.teacher_from_logits,
            "student_from_logits": self.student_from_logits,
        }
        return {name: flag for name, flag in flags.items() if flag is not None}

    @property
    def required_context(self):
        """The keyword-only arguments of `call`."""
        return self._keywords

    def as_logits(self, teacher_features, student_features):
        """Both sides as logits; probabilities, if declared, are converted."""
        if self.teacher_from_logits is False:
            teacher_features = self._logits_of(teacher_features)
        if self.student_from_logits is False:
            student_features = self._logits_of(student_features)
        return teacher_features, student_features

    def _logits_of(self, probabilities):
        if self.joint and isinstance(probabilities, (list, tuple)):
            return [self._logits_of(each) for each in probabilities]
        logits = logits_of(probabilities, self.activation)
        mask = get_keras_mask(probabilities)
        if mask is not None:
            set_keras_mask(logits, mask)
        return logits

    def __call__(
        self,
        teacher_features,
        student_features,
        sample_weight=None,
        *,
        mask=None,
        **context,
    ):
        if isinstance(student_features, ChunkedLogits):
            sides = teacher_features, student_features
            weights = {"sample_weight": sample_weight, "mask": mask}
            term = self.position_term(*sides, **weights, **context)
            return sums_over_positions([term])[0]
        if not context.pop("are_logits", False):
            teacher_features, student_features = self.as_logits(
                teacher_features, student_features
            )
        # JAX's tracers take no attributes: Keras keeps a table.
        if mask is None and not self.joint:
            sides = [student_features]
            sides += [teacher_features] if self.same_tokens else []
            mask = first_fitting(
                self, map(get_keras_mask, sides), student_features
            )
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight)
        teacher, student = self._tensors(teacher_features, student_features)
        present = self._each(self._present, student, mask, sample_weight)
        if self.per_sample:
            sample_weight, (teacher, student), present = self._of_samples(
                sample_weight, mask, (teacher, student), present
            )
            mask = None
        if sample_weight is not None:
            sample_weight = broadcast_weights(
                sample_weight, self._values_shape(student)
            )
        context = self._context(context, student, sample_weight, present)
        with keras.name_scope(self.name):
            values = self.call(teacher, student, **context)
        if mask is not None:
            mask = self.mask_at(student, mask)
        return reduced(self, values, sample_weight, mask)

    def position_term(
        self,
        teacher_logits,
        student_logits,
        *,
        sample_weight=None,
        mask=None,
        labels=None,
        **context,
    ):
        """The loss of `ChunkedLogits`, to be computed chunk by chunk.

        Args:
            teacher_logits: `ChunkedLogits`, or a tensor of the same positions.
            student_logits: `ChunkedLogits`.
            sample_weight: as in a call.
            mask: as in a call.
            labels: as in a call.
            context: the other arguments of a call; not used.

        Returns:
            A `PositionTerm`.

        Raises:
            ValueError: the loss compares positions or samples with each
                other, or has no reduction.
        """
        self.check_positionwise()
        self.check_shapes(teacher_logits.shape, student_logits.shape)
        if mask is None:
            masks = map(get_keras_mask, (student_logits, teacher_logits))
            mask = first_fitting(self, masks, student_logits)
        if mask is not None:
            mask = self.mask_at(student_logits, mask)
        names = set(self.required_context) & {"labels"}
        if names and labels is None:
            self._context({}, student_logits, None, None)

        def values(teacher, student, labels):
            sides = self.as_logits(teacher, student)
            sides = [ops.convert_to_tensor(x, dtype=self.dtype) for x in sides]
            return self.call(*sides, **{name: labels for name in names})

        return PositionTerm(
            values,
            teacher_logits,
            student_logits,
            labels if names else None,
            coefficients(self, student_logits, sample_weight, mask),
        )

    def check_positionwise(self):
        """Raises a `ValueError` unless each position has a loss of its own."""
        names = set(self.required_context) - {"labels", "temperature"}
        compares = self.per_sample or self.joint or not self.same_tokens
        if not self.expects_logits or compares or names:
            raise ValueError(
                f"{type(self).__name__} can't be computed a few positions at a "
                "time: it compares samples or positions with each other, or "
                "features that are not logits. Received: `ChunkedLogits`. "
                "Use a loss that compares logits position by position, such as "
                "`keras_kd.losses.SoftTargets`, or `chunk_size=None`: all "
                "logits (batch x length x classes) are then in memory."
            )

    def _each(self, function, features, *others):
        """Applies a function to the features, or to each of a list of them."""
        if not self.joint:
            return function(features, *others)
        others = [
            each if isinstance(each, list) else [each] * len(features)
            for each in others
        ]
        return [function(*each) for each in zip(features, *others)]

    def _tensors(self, teacher_features, student_features):
        sides = teacher_features, student_features
        if self.joint:
            sides = [[ops.convert_to_tensor(x) for x in side] for side in sides]
            self.check_shapes(*([x.shape for x in side] for side in sides))
        else:
            sides = [ops.convert_to_tensor(side) for side in sides]
            self.check_shapes(*(side.shape for side in sides))
        return keras.tree.map_structure(
            lambda x: ops.convert_to_tensor(x, dtype=self.dtype), sides
        )

    def _values_shape(self, features):
        features = features[0] if self.joint else features
        if self.per_sample:
            return list(ops.shape(features))[:1]
        return self._positions_shape(ops.shape(features))

    def _positions_shape(self, shape):
        shape = list(shape)
        del shape[self.axis]
        return shape

    def weights_at(self, features, weights):
        """Weights at the features' positions; None if per sample."""
        return at_positions(weights, self._positions_shape(features.shape))

    def mask_at(self, features, mask, resize=True):
        """A mask, as numbers, at the features' positions; None if of others."""
        positions = self._positions_shape(features.shape)
        mask = without_column(mask, len(positions))
        if len(mask.shape) == len(features.shape):
            # One entry per element, as in the mask of attention maps.
            mask = ops.max(mask, axis=self.axis)
        return at_positions(mask, positions, resize)

    def _present(self, features, mask, sample_weight, resize=True):
        """Which positions of the features count; None means all."""
        found = []
        if mask is not None:
            found.append(self.mask_at(features, mask, resize))
        if sample_weight is not None:
            found.append(self.weights_at(features, sample_weight))
        found = [entries > 0.0 for entries in found if entries is not None]
        return functools.reduce(ops.logical_and, found) if found else None

    def _of_samples(self, sample_weight, mask, sides, present):
        """Weights per sample, both sides without absent positions; a mask."""
        teacher, student = sides
        # A mask of the student's positions may not fit the teacher's.
        of_teacher = self._each(
            self._present, teacher, mask, sample_weight, False
        )
        teacher = self._each(self._without_absent, teacher, of_teacher)
        student = self._each(self._without_absent, student, present)
        weight = self._weight_of_samples(sample_weight, mask, present)
        both = self._each(
            lambda _, own, other: None if other is None else own,
            student,
            present,
            of_teacher,
        )
        return weight, (teacher, student), both

    def _without_absent(self, features, present):
        """The features, with zeros at absent positions."""
        if present is None:
            return features
        if len(present.shape) < len(features.shape):
            present = ops.expand_dims(present, axis=self.axis)
        return ops.where(present, features, ops.zeros_like(features))

    def _weight_of_samples(self, sample_weight, mask, present):
        if self.joint:
            known = [each for each in present if each is not None]
            present = known[0] if known else None
            mask = mask[0] if isinstance(mask, list) else mask
        return weight_of_samples(sample_weight, mask, present)

    def _mask(self, features, present):
        """The `mask` that `call` gets: True at positions that count."""
        shape = self._positions_shape(ops.shape(features))
        if present is not None:
            return ops.broadcast_to(present, shape)
        return ops.ones(shape, "bool") if self._needs_mask else None

    def _context(self, context, student_features, sample_weight, present):
        context = {"training": False, **context}
        if "mask" in self.required_context:
            masks = self._each(self._mask, student_features, present)
            known = not self.joint or any(m is not None for m in masks)
            context["mask"] = masks if known else None
        if "sample_weight" in self.required_context:
            if sample_weight is None:
                sample_weight = ops.ones(self._values_shape(student_features))
            context = {**context, "sample_weight": sample_weight}
        for name in self.required_context:
            if name not in OPTIONAL and context.get(name) is None:
                raise ValueError(
                    f"{type(self).__name__} needs `{name}`. Received: {name}="
                    "None. In a `Transfer`, train on data that has it; used "
                    f"alone, pass `{name}=` by keyword."
                )
        return {
            name: context[name]
            for name in self.required_context
            if name in context
        }

    def check_shapes(self, teacher_shape, student_shape):
        """Raises a `ValueError` unless features of these shapes compare."""
        if not same_shape(teacher_shape, student_shape):
            raise ValueError(
                f"{type(self).__name__} compares features of the same shape. "
                f"Received: teacher {tuple(teacher_shape)}, student "
                f"{tuple(student_shape)}. Give the transfer "
                "`adapter=keras_kd.layers.FeatureAdapter()` to bring the "
                "student's features to the teacher's shape, or tap other "
                "layers."
            )

    def options(self):
        """The loss's own arguments by name, which are saved with it."""
        return {}

    def get_config(self):
        return {
            "reduction": self.reduction,
            "name": self.name,
            **self._flags(),
            **self.options(),
        }

    @classmethod
    def from_config(cls, config):
        return cls(
            **{
                key: keras.saving.deserialize_keras_object(value)
                if isinstance(value, dict)
                else value
                for key, value in config.items()
            }
        )


class _Reduction(keras.losses.Loss):
    """Reduces values that are already computed, given as both arguments."""

    def call(self, values, same_values):
        return same_values


def reduced(loss, values, sample_weight, mask=None):
    """Reduces values as the loss does, without those where `mask` is 0."""
    if mask is not None:
        mask = ops.broadcast_to(mask > 0.0, ops.shape(values))
        own = get_keras_mask(values)
        mask = mask if own is None else ops.logical_and(mask, own)
        set_keras_mask(values, mask)
    reduction = _Reduction(loss.name, loss.reduction, loss.dtype)
    return reduction(values, values, sample_weight)


def coefficients(loss, logits, sample_weight, mask):
    """The factor of each position's value in a loss's reduction.

    Args:
        loss: any Keras loss.
        logits: `ChunkedLogits`.
        sample_weight: per sample or per position, or None.
        mask: per position, broadcastable; or None.
    """
    if loss.reduction in (None, "none"):
        raise ValueError(
            f"The loss {loss.name!r} must have a reduction, as logits in "
            "chunks give one number. Received: "
            f"reduction={loss.reduction!r}. Use 'mean_with_sample_weight' or "
            "'sum'."
        )
    shape = logits.positions
    weight = ops.ones(shape)
    if mask is not None:
        weight = ops.cast(ops.broadcast_to(mask > 0.0, shape), "float32")
    total = ops.sum(weight)
    if sample_weight is not None:
        weight = weight * broadcast_weights(sample_weight, shape)
    if loss.reduction == "sum":
        return weight
    if loss.reduction == "mean_with_sample_weight":
        total = ops.sum(weight)
    # With several replicas, each computes its own part.
    return ops.divide_no_nan(weight, total) * reduced(
        loss, ops.ones((1,)), None
    )


def first_fitting(loss, masks, features):
    """The first of some masks that fits the features' positions, or None."""
    if not hasattr(features, "shape"):
        features = ops.convert_to_tensor(features)
    for mask in masks:
        if mask is None:
            continue
        if loss.mask_at(features, mask, resize=False) is not None:
            return mask
    return None


def check_flags(owner, flags):
    """Raises a `ValueError` unless the owner can take `from_logits` flags."""
    for name, flag in flags.items():
        one_of(flag, name, (None, True, False))
        if flag is not None and not owner.expects_logits:
            raise ValueError(
                f"{type(owner).__name__} does not compare logits. Received: "
                f"{name}={flag}. Leave it out."
            )


def in_full_precision(*tensors):
    """Returns the tensors as float32 where they are float16 or bfloat16."""
    tensors = [ops.convert_to_tensor(tensor) for tensor in tensors]
    half = ("float16", "bfloat16")
    return [
        ops.cast(tensor, "float32")
        if keras.backend.standardize_dtype(tensor.dtype) in half
        else tensor
        for tensor in tensors
    ]


def bounded_logits(*logits, least=LEAST_LOGIT):
    """Logits in full precision, low enough that multiples stay finite."""
    return [ops.maximum(each, least) for each in in_full_precision(*logits)]


def logits_of(probabilities, activation="softmax"):
    """Logits of probabilities: the inverse of a softmax, or of a sigmoid.

    For models that end in one of these. The logits of a softmax are known up to
    a constant per sample. Probabilities of 0 and 1 get finite logits, with a
    gradient of 0.

        softmax:  logits = log(max(p, 1e-30))
        sigmoid:  logits = log(max(p, 1e-30)) - log(max(1 - p, 2^-25))

    Args:
        probabilities: from 0 to 1, shape `(..., classes)`.
        activation: `"softmax"` or `"sigmoid"`.

    Returns:
        Logits, shape `(..., classes)`.

    Raises:
        ValueError: `activation` is neither of these.

    Example:
    >>> [round(float(v), 3) for v in logits_of([[0.5, 0.5]])[0]]
    [-0.693, -0.693]
    >>> [round(float(v), 3) for v in logits_of([[0.5, 0.9]], "sigmoid")[0]]
    [0.0, 2.197]
    """
    (probabilities,) = in_full_precision(probabilities)
    logits = ops.log(ops.maximum(probabilities, 1e-30))
    if one_of(activation, "activation", ("softmax", "sigmoid")) == "sigmoid":
        # What rounds to 1 in float32 is at least this far from 1 on average.
        logits = logits - ops.log(ops.maximum(1.0 - probabilities, 2.0**-25))
    return logits

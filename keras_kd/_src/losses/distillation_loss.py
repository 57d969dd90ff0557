"""What all distillation losses share: weights, masks and precision."""

import functools
import inspect

import keras
from keras import ops

from keras_kd._src.keras_compat import get_keras_mask
from keras_kd._src.specs import same_shape


class DistillationLoss(keras.losses.Loss):
    """Base class of the losses: compares features of teacher and student.

    To write your own, implement `call(teacher_features, student_features)`
    and return one value per sample (or token, or pixel), not reduced. The
    weighted mean, Keras masks, float32 arithmetic under mixed precision and
    the scaling under several replicas are done here and in
    `keras.losses.Loss`. Features may be any outputs, logits among them.

        value = sum(weight * values) / sum(weight)

    A sample of weight 0 (or a masked token) is therefore absent: the others
    get the loss and the gradient that they would have got without it.

    What `call` takes by keyword only, a `Transfer` passes to it:

    - `labels`, the batch's labels;
    - `sample_weight`, one a sample, where samples are compared to each other;
    - `mask`, True at positions that count, where positions are compared with
      each other; of the shape of the features without their `axis`;
    - `sample_index`, each sample's index in the data, where something is
      kept of each (see `Distiller` for the data's form);
    - `training`, whether it is a training step, where something is kept;
    - `temperature`, one a sample, where a rule sets it; else left out.

    A loss with `joint = True` gets the features of all taps at once, as
    lists. Return arguments of your own from `options()`, and they are saved
    with the loss; a layer that it keeps as an attribute is saved with the
    distiller.

    Args:
        reduction: how the values become one number, as in
            `keras.losses.Loss`. Defaults to `"mean_with_sample_weight"`.
        name: name of the loss.
        dtype: precision of the arithmetic. Defaults to float32 (Keras'
            `floatx`), whatever the precision of the models.

    Call arguments:
        teacher_features: the teacher's, shape `(batch, ...)`.
        student_features: the student's, shape `(batch, ...)`.
        sample_weight: optional, shape `(batch,)` or that of the values.
        labels, sample_index, training, temperature: by keyword, where `call`
            names them; `training` is False by default.

    Returns:
        The loss, a scalar unless `reduction` is `None`.

    Raises:
        ValueError: `check_shapes` found features that the loss can't compare;
            a keyword that `call` needs is missing.

    Example:
    >>> class AbsoluteError(DistillationLoss):
    ...     def call(self, teacher_features, student_features):
    ...         error = ops.abs(teacher_features - student_features)
    ...         return ops.mean(error, axis=-1)
    >>> loss = AbsoluteError()
    >>> float(loss([[1.0, 3.0]], [[0.0, 0.0]]))
    2.0
    """

    # True where `call` returns one value per sample whatever the rank,
    # False where it returns one per position (all axes but the `axis`).
    per_sample = False
    # True where the features are logits: a check warns of probabilities.
    expects_logits = False
    # True where `call` takes the features of all taps at once, as lists.
    joint = False
    axis = -1

    def __init__(
        self, *, reduction="mean_with_sample_weight", name=None, dtype=None
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        parameters = inspect.signature(self.call).parameters.values()
        self._keywords = [
            p.name for p in parameters if p.kind is p.KEYWORD_ONLY
        ]

    @property
    def required_context(self):
        """What `call` takes by keyword only, besides the features."""
        return self._keywords

    def __call__(
        self, teacher_features, student_features, sample_weight=None, **context
    ):
        # JAX' tracers take no attributes: Keras keeps a table.
        mask = None if self.joint else get_keras_mask(student_features)
        teacher_features, student_features = self._tensors(
            teacher_features, student_features
        )
        if self.per_sample and mask is not None:
            # One entry a token, but values one a sample: empty them here.
            teacher_features = _empty_masked(teacher_features, mask, self.axis)
            student_features = _empty_masked(student_features, mask, self.axis)
            sample_weight = _weight_of_masked(sample_weight, mask)
        if "mask" in self.required_context:
            context = {**context, "mask": self._mask(mask, student_features)}
        if sample_weight is not None:
            sample_weight = broadcast_weights(
                sample_weight, self._values_shape(student_features)
            )
        context = self._context(context, student_features, sample_weight)
        if not context:
            return super().__call__(
                teacher_features, student_features, sample_weight
            )
        values = functools.partial(self.call, **context)
        return _Reduction(self, values)(
            teacher_features, student_features, sample_weight
        )

    def _tensors(self, teacher_features, student_features):
        sides = teacher_features, student_features
        if self.joint:
            sides = [[ops.convert_to_tensor(x) for x in side] for side in sides]
            self.check_shapes(*([x.shape for x in side] for side in sides))
        else:
            sides = [ops.convert_to_tensor(side) for side in sides]
            self.check_shapes(*(side.shape for side in sides))
        return sides

    def _values_shape(self, features):
        features = features[0] if self.joint else features
        shape = list(ops.shape(features))
        if self.per_sample:
            return shape[:1]
        del shape[self.axis]
        return shape

    def _mask(self, mask, student_features):
        shape = list(ops.shape(student_features))
        del shape[self.axis]
        if mask is None:
            return ops.ones(shape, "bool")
        return broadcast_weights(ops.cast(mask, "bool"), shape)

    def _context(self, context, student_features, sample_weight):
        context = {"training": False, **context}
        if "sample_weight" in self.required_context:
            if sample_weight is None:
                sample_weight = ops.ones(self._values_shape(student_features))
            context = {**context, "sample_weight": sample_weight}
        for name in self.required_context:
            if name != "temperature" and context.get(name) is None:
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
        """The loss's own arguments by name, to be saved with it."""
        return {}

    def get_config(self):
        return {
            "reduction": self.reduction,
            "name": self.name,
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
    """Reduces values as a loss does; they come from a function."""

    def __init__(self, loss, values):
        super().__init__(loss.name, loss.reduction, loss.dtype)
        self.call = values


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


def broadcast_weights(sample_weight, shape):
    """Weights of samples (or of tokens) as weights of values of a shape."""
    weight = ops.convert_to_tensor(sample_weight)
    if len(weight.shape) > len(shape) and weight.shape[-1] == 1:
        weight = ops.squeeze(weight, axis=-1)
    while len(weight.shape) < len(shape):
        weight = ops.expand_dims(weight, axis=-1)
    # A copy: on PyTorch, Keras multiplies the mask into it in place.
    return ops.copy(ops.broadcast_to(weight, shape))


def _empty_masked(features, mask, axis):
    mask = ops.cast(mask, "bool")
    positions = list(features.shape)
    if len(positions) > len(mask.shape):
        del positions[axis]
    if not same_shape(positions[: len(mask.shape)], mask.shape):
        return features  # of other positions: this mask is not theirs
    while len(mask.shape) < len(features.shape):
        mask = ops.expand_dims(mask, axis=axis)
    return ops.where(mask, features, ops.zeros_like(features))


def _weight_of_masked(sample_weight, mask):
    """The weights, 0 for a sample that is masked altogether."""
    mask = ops.cast(mask, "bool")
    present = ops.any(mask, axis=tuple(range(1, len(mask.shape))))
    present = ops.cast(present, "float32")
    if sample_weight is None:
        return present
    return broadcast_weights(sample_weight, ops.shape(present)) * present

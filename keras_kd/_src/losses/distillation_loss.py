"""What all distillation losses share: weights, masks and precision."""

import functools
import inspect

import keras
from keras import ops

from keras_kd._src.keras_compat import get_keras_mask


class DistillationLoss(keras.losses.Loss):
    """Base class of the losses: compares a teacher view with a student view.

    To write your own, implement `call(teacher_features, student_features)` and return
    one value per sample (or token, or pixel), not reduced. The weighted mean,
    Keras masks, float32 arithmetic under mixed precision and the scaling under
    several replicas are done here and in `keras.losses.Loss`.

        value = sum(weight * values) / sum(weight)

    A sample of weight 0 (or a masked token) is therefore absent: the others
    get the loss and the gradient that they would have got without it.

    What `call` takes by keyword only, a `Transfer` hands to it:

    - `labels`, the batch's labels;
    - `sample_weight`, one a sample, where samples are compared to each other;
    - `mask`, True at positions that count, where positions are compared with
      each other; of the shape of the view without its `axis`;
    - `sample_index`, each sample's place in the data, where something is
      kept of each (see `Distiller` for the data's form);
    - `training`, whether it is a training step, where something is kept;
    - `temperature`, one a sample, where a rule sets it; else left out.

    A loss with `joint = True` gets the views of all taps at once, as lists. A
    layer that it keeps as an attribute is saved with the distiller.

    Args:
        reduction: how the values become one number, as in
            `keras.losses.Loss`. Defaults to `"mean_with_sample_weight"`.
        name: name of the loss.
        dtype: precision of the arithmetic. Defaults to float32 (Keras'
            `floatx`), whatever the precision of the models.

    Call arguments:
        teacher_features: what the teacher answered, shape `(batch, ...)`.
        student_features: what the student answered, shape `(batch, ...)`.
        sample_weight: optional, shape `(batch,)` or that of the values.
        labels, sample_index, training, temperature: by keyword, where `call`
            names them; `training` is False by default.

    Returns:
        The loss, a scalar unless `reduction` is `None`.

    Raises:
        ValueError: `check_shapes` found views that the loss can't compare; a
            keyword that `call` needs is missing.

    Example:
    >>> class AbsoluteError(DistillationLoss):
    ...     def call(self, teacher_features, student_features):
    ...         return ops.mean(ops.abs(teacher_features - student_features), axis=-1)
    >>> loss = AbsoluteError()
    >>> float(loss([[1.0, 3.0]], [[0.0, 0.0]]))
    2.0
    """

    # True where `call` returns one value per sample whatever the view's rank,
    # False where it returns one per position (all axes but the `axis`).
    per_sample = False
    # True where the views are logits: their scale is then inspected.
    expects_logits = False
    # True where `call` takes the views of all taps at once, as lists.
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
        """What `call` takes besides the views: its keyword-only arguments."""
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
        views = teacher_features, student_features
        if self.joint:
            views = [[ops.convert_to_tensor(v) for v in view] for view in views]
            self.check_shapes(*([v.shape for v in view] for view in views))
        else:
            views = [ops.convert_to_tensor(view) for view in views]
            self.check_shapes(*(view.shape for view in views))
        return views

    def _values_shape(self, view):
        view = view[0] if self.joint else view
        shape = list(ops.shape(view))
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
        needs = [
            name for name in self.required_context if name != "temperature"
        ]
        for name in needs:
            if context.get(name) is None:
                raise ValueError(
                    f"{type(self).__name__} needs `{name}`. Received: {name}="
                    "None. In a `Transfer`, train on data that has them; used "
                    f"alone, pass `{name}=` by keyword."
                )
        return {
            name: context[name]
            for name in self.required_context
            if name in context
        }

    def check_shapes(self, teacher_shape, student_shape):
        """Raises a `ValueError` unless views of these shapes compare."""
        if not same_shape(teacher_shape, student_shape):
            raise ValueError(
                f"{type(self).__name__} compares views of the same shape. "
                f"Received: teacher {tuple(teacher_shape)}, student "
                f"{tuple(student_shape)}. Give the transfer "
                "`adapter=keras_kd.layers.FeatureAdapter()` to bring the "
                "student's view to the teacher's shape, or tap other layers."
            )

    def get_config(self):
        return {"reduction": self.reduction, "name": self.name}

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
    """Reduces values as a loss does; they come from a function of the views."""

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


def same_shape(first, second):
    """Whether two shapes agree, as far as they are known.

    Example:
    >>> same_shape((None, 3), (8, 3)), same_shape((8, 2), (8, 3))
    (True, False)
    """
    return len(first) == len(second) and all(
        a == b or a is None or b is None for a, b in zip(first, second)
    )


def broadcast_weights(sample_weight, shape):
    """Weights of samples (or of tokens) as weights of values of a shape.

    Example:
    >>> broadcast_weights([1.0, 2.0], (2, 3)).shape == (2, 3)
    True
    """
    weight = ops.convert_to_tensor(sample_weight)
    if len(weight.shape) > len(shape) and weight.shape[-1] == 1:
        weight = ops.squeeze(weight, axis=-1)
    while len(weight.shape) < len(shape):
        weight = ops.expand_dims(weight, axis=-1)
    # A copy: on PyTorch, Keras multiplies the mask into it in place.
    return ops.copy(ops.broadcast_to(weight, shape))


def _empty_masked(view, mask, axis):
    mask = ops.cast(mask, "bool")
    positions = list(view.shape)
    if len(positions) > len(mask.shape):
        del positions[axis]
    if not same_shape(positions[: len(mask.shape)], mask.shape):
        return view  # the other side's positions: this mask is not theirs
    while len(mask.shape) < len(view.shape):
        mask = ops.expand_dims(mask, axis=axis)
    return ops.where(mask, view, ops.zeros_like(view))


def _weight_of_masked(sample_weight, mask):
    """The weights, 0 for a sample that is masked altogether."""
    mask = ops.cast(mask, "bool")
    present = ops.any(mask, axis=tuple(range(1, len(mask.shape))))
    present = ops.cast(present, "float32")
    if sample_weight is None:
        return present
    return broadcast_weights(sample_weight, ops.shape(present)) * present

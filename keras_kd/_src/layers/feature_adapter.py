"""FeatureAdapter: brings a student's features to the teacher's shape."""

import math

import keras
from keras import ops

from keras_kd._src.layers.positions import check_target
from keras_kd._src.layers.positions import match_positions


@keras.saving.register_keras_serializable(package="keras_kd")
class FeatureAdapter(keras.layers.Layer):
    """Adapts a student's features to the teacher's shape (FitNets).

    The regressor of FitNets, for layers of any two models. Positions are
    resized (averaged down or interpolated up), maps and token sequences are
    converted into each other, and positions are averaged for a vector. A linear
    projection, the only trained part, changes the number of channels. What does
    not differ is left as it is; an adapter between equal shapes has no weights.

        adapted = resize(features) @ kernel + bias

    | student          | teacher          | steps                              |
    |------------------|------------------|------------------------------------|
    | `(h, w, c)`      | `(H, W, C)`      | resize, project                    |
    | `(t, c)`         | `(T, C)`         | resize, project                    |
    | `(h, w, c)`      | `(T, C)`         | resize to a square of T if T is a  |
    |                  |                  | square, else to T along the row    |
    | `(t, c)`         | `(H, W, C)`      | the last n*n of the t tokens as a  |
    |                  |                  | square map (class tokens come      |
    |                  |                  | first), resize, project            |
    | any              | `(C,)`           | mean over positions, project       |
    | `(c,)`           | `(..., C)`       | project, same at each position     |

    Args:
        target_shape: the teacher's shape without the batch; a `Transfer`
            fills it in.
        data_format: format of maps, `"channels_last"` or `"channels_first"`;
            Keras' setting by default.
        kwargs: as in `keras.layers.Layer`.

    Input shape:
        `(batch, ...)`, of rank 2 to 5.

    Output shape:
        `(batch, *target_shape)`.

    Raises:
        ValueError: the student's features can't be brought to the target shape
            (when built).

    Example:
    >>> adapter = FeatureAdapter(target_shape=(4, 4, 32))
    >>> adapter(keras.ops.ones((2, 8, 8, 16))).shape == (2, 4, 4, 32)
    True

    Reference: Romero et al., 2015, "FitNets: Hints for Thin Deep Nets",
    arXiv 1412.6550 (section 2.2).
    """

    def __init__(self, target_shape=None, *, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.target_shape = target_shape and tuple(target_shape)
        self.data_format = data_format or keras.config.image_data_format()
        self.projection = None
        self.supports_masking = True

    def build(self, input_shape):
        check_target(self)
        source, target = self._to_last(input_shape[1:]), self._target()
        self._check(source, target)
        # If not, the number of positions may be unknown: both sides share it.
        self._resizes = source[:-1] != target[:-1]
        if source[-1] != target[-1]:
            self.projection = keras.layers.Dense(
                target[-1],
                name="projection",
                dtype=self.dtype_policy,
                trainable=self.trainable,
            )
            self.projection.build((None,) * (len(target)) + (source[-1],))

    def call(self, inputs):
        target = self._target()
        features = self._channels_last(inputs)
        repeats = len(features.shape) == 2 and len(target) > 1
        if self._resizes and not repeats:
            features = _resized(features, target[:-1])
        if self.projection is not None:
            features = self.projection(features)
        if repeats:
            for size in target[:-1]:
                features = ops.expand_dims(features, axis=-2)
                features = ops.repeat(features, size, axis=-2)
        return self._channels_as_given(features)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.target_shape)

    def compute_mask(self, inputs, previous_mask):
        same = tuple(inputs.shape[1:-1]) == tuple(self.target_shape[:-1])
        return previous_mask if same or not self._resizes else None

    def get_config(self):
        return {
            **super().get_config(),
            "target_shape": self.target_shape,
            "data_format": self.data_format,
        }

    def _check(self, source, target):
        fixed = source[-1] is not None and target[-1] is not None
        ranks = 1 <= len(source) <= 4 and 1 <= len(target) <= 4
        differ = len(source) > 1 and source[:-1] != target[:-1]
        unknown = (
            differ and len(target) > 1 and None in source[:-1] + target[:-1]
        ) or (len(source) == 1 and None in target[:-1])
        maps = {len(source), len(target)}
        joined = len(maps) == 1 or min(maps) == 1 or maps == {2, 3}
        if maps == {2, 3} and len(source) == 2:
            joined = _square(source[0]) is not None
        if not (fixed and ranks and joined) or unknown:
            raise ValueError(
                "FeatureAdapter can't bring the student's features to the "
                f"teacher's shape. Received: student {source}, teacher "
                f"{target} (without the batch, channels last). It takes "
                "vectors, token sequences (tokens, channels) and maps (height, "
                "width, channels) of known sizes. Tap other layers, or pass a "
                "layer of your own as the transfer's `adapter`."
            )

    def _first(self, shape):
        return self.data_format == "channels_first" and len(shape) > 2

    def _to_last(self, shape):
        shape = tuple(shape)
        return (*shape[1:], shape[0]) if self._first(shape) else shape

    def _target(self):
        return self._to_last(self.target_shape)

    def _channels_last(self, features):
        first = self._first(features.shape[1:])
        return ops.moveaxis(features, 1, -1) if first else features

    def _channels_as_given(self, features):
        first = self._first(self.target_shape)
        return ops.moveaxis(features, -1, 1) if first else features


def _square(tokens):
    """Side of the square map in a sequence, without up to 8 class tokens."""
    side = math.isqrt(tokens) if tokens else 0
    return side if side > 1 and tokens - side * side <= 8 else None


def _resized(features, positions):
    """Resizes `(batch, ..., channels)` to the given positions."""
    channels = features.shape[-1]
    if not positions and len(features.shape) > 2:
        return ops.mean(features, axis=tuple(range(1, len(features.shape) - 1)))
    if len(features.shape) == 3 and len(positions) == 2:
        side = _square(features.shape[1])
        tokens = features[:, -side * side :]
        features = ops.reshape(tokens, (-1, side, side, channels))
    flatten = len(features.shape) == 4 and len(positions) == 1
    if flatten:
        side = math.isqrt(positions[0])
        square = side * side == positions[0]
        grid = (side, side) if square else tuple(features.shape[1:3])
        features = _resized(features, grid)
        features = ops.reshape(features, (-1, math.prod(grid), channels))
    return match_positions(features, positions)

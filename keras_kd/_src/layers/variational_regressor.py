"""VariationalRegressor: predicts the teacher's features with variances."""

import math

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.layers.positions import channels_last
from keras_kd._src.layers.positions import check_same_rank
from keras_kd._src.layers.positions import check_target
from keras_kd._src.layers.positions import match_positions


@keras.saving.register_keras_serializable(package="keras_kd")
class VariationalRegressor(keras.layers.Layer):
    """Predicts the teacher's features: the means and variances of VID.

    The adapter of a transfer of `VariationalInformation`.

    Three projections at each position (1x1 convolutions without biases, with
    ReLU in between) predict the mean of the teacher's features. The uncertainty
    is one trained variance per channel, the same at all positions and for all
    samples. If the numbers of positions differ, the features are first averaged
    down or interpolated up.

        mean = W3 relu(W2 relu(W1 features))
        variance = softplus(rho) + 1e-5
        output = (mean, variance), one after the other on the channels' axis

    The output is float32 even under mixed precision, as float16 is too coarse
    for small variances.

    Args:
        target_shape: the teacher's shape without the batch; a `Transfer`
            fills it in.
        initial_variance: initial variance of each channel, above 1e-5; 5.0 in
            the paper.
        axis: the channels' axis; 1 for channels-first maps.
        kwargs: as in `keras.layers.Layer`.

    Input shape:
        `(batch, ..., channels)`, of the teacher's rank.

    Output shape:
        `(batch, *target_shape)`, with twice the number of channels.

    Raises:
        ValueError: `initial_variance` is too small; the ranks differ, or sizes
            are unknown (when built).

    Example:
    >>> regressor = VariationalRegressor(target_shape=(4, 4, 6))
    >>> prediction = regressor(keras.ops.ones((2, 4, 4, 3)))
    >>> prediction.shape == (2, 4, 4, 12)
    True
    >>> variances = keras.ops.convert_to_numpy(prediction)[0, 0, 0, 6:]
    >>> [round(float(variance), 4) for variance in variances[:2]]
    [5.0, 5.0]

    Reference: Ahn et al., 2019, "Variational Information Distillation for
    Knowledge Transfer", arXiv 1904.05835.
    """

    def __init__(
        self, target_shape=None, *, initial_variance=5.0, axis=-1, **kwargs
    ):
        super().__init__(**kwargs)
        self.target_shape = target_shape and tuple(target_shape)
        self.initial_variance = number(
            initial_variance, "initial_variance", above=1e-5
        )
        self.axis = axis
        self.projections = []
        self.rho = None
        self.supports_masking = True

    def build(self, input_shape):
        check_target(self)
        source, target = channels_last(input_shape, self.axis), self._target()
        check_same_rank(self, source, target)
        channels = source[-1]
        for place in range(3):
            dense = keras.layers.Dense(
                target[-1],
                activation="relu" if place < 2 else None,
                use_bias=False,
                name=f"projection_{place}",
                dtype=self.dtype_policy,
                trainable=self.trainable,
            )
            dense.build((*source[:-1], channels))
            self.projections.append(dense)
            channels = target[-1]
        above = self.initial_variance - 1e-5
        # The inverse of softplus, without overflow.
        initial = above + math.log(-math.expm1(-above))
        self.rho = self.add_weight(
            shape=(target[-1],),
            initializer=keras.initializers.Constant(initial),
            name="rho",
            autocast=False,
        )

    def call(self, inputs):
        mean = ops.moveaxis(inputs, self.axis, -1)
        mean = match_positions(mean, self._target()[1:-1])
        for projection in self.projections:
            mean = projection(mean)
        mean = ops.cast(mean, self.rho.dtype)
        variance = ops.broadcast_to(self.variance(), ops.shape(mean))
        both = ops.concatenate([mean, variance], axis=-1)
        return ops.moveaxis(both, -1, self.axis)

    def variance(self):
        """The variance of each channel, shape `(channels,)`."""
        return ops.softplus(ops.convert_to_tensor(self.rho)) + 1e-5

    def compute_output_shape(self, input_shape):
        shape = [input_shape[0], *self.target_shape]
        shape[self.axis] *= 2
        return tuple(shape)

    def compute_mask(self, inputs, previous_mask):
        positions = channels_last(inputs.shape, self.axis)[1:-1]
        return previous_mask if positions == self._target()[1:-1] else None

    def _target(self):
        return channels_last((None, *self.target_shape), self.axis)

    def get_config(self):
        return {
            **super().get_config(),
            "target_shape": self.target_shape,
            "initial_variance": self.initial_variance,
            "axis": self.axis,
        }

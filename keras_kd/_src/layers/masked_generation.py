"""MaskedGeneration: generates the teacher's map from a masked one."""

import keras
from keras import ops

from keras_kd._src.arguments import number
from keras_kd._src.backend import drawn_for_replica
from keras_kd._src.layers.positions import channels_last
from keras_kd._src.layers.positions import check_same_rank
from keras_kd._src.layers.positions import check_target
from keras_kd._src.layers.positions import match_positions

CONVOLUTIONS = {
    3: keras.layers.Conv1D,
    4: keras.layers.Conv2D,
    5: keras.layers.Conv3D,
}


@keras.saving.register_keras_serializable(package="keras_kd")
class MaskedGeneration(keras.layers.Layer):
    """Masked generative distillation (MGD): the mask and the generator.

    The student's map is masked at random positions, and a small generator has
    to predict the teacher's complete map from the rest. So each of the
    student's positions must represent its surroundings, which plain feature
    matching does not require. The generator is trained with the student, and is
    not part of it:

        Transfer(
            FeatureMatching(),
            teacher="stage4",
            student="stage4",
            adapter=MaskedGeneration(),
            weight=2e-5 * channels * height * width,
        )

        generated = conv3x3(relu(conv3x3(mask * align(resize(features)))))

    `align` is a 1x1 convolution, used only if the numbers of channels differ.
    The mask is drawn anew for each sample of each batch, is the same for all
    channels, and is not applied outside of training. If the numbers of
    positions differ, the student's map is first averaged down or interpolated
    up; the authors' maps have the same size.

    The authors sum the squared error over channels and positions, with a
    weight of 2e-5 for detection and segmentation and of 7e-5 (and a mask ratio
    of 0.5) for classification. `FeatureMatching` takes the mean: multiply
    their weight by the teacher's channels * height * width. For a map of
    7 x 7 x 512 and 7e-5 that is 1.76.

    Args:
        target_shape: the teacher's shape without the batch; a `Transfer`
            fills it in.
        mask_ratio: the probability that a position is masked, in [0, 1).
        axis: the channels' axis; 1 for channels-first maps.
        seed: an integer, for the masks; None for a random one.
        kwargs: as in `keras.layers.Layer`.

    Input shape:
        `(batch, ..., channels)`, of the teacher's rank, 3 (a sequence) to 5.

    Output shape:
        `(batch, *target_shape)`.

    Raises:
        ValueError: `mask_ratio` is out of its range; the ranks differ, or sizes
            are unknown (when built).

    Example:
    >>> adapter = MaskedGeneration(target_shape=(4, 4, 32))
    >>> generated = adapter(keras.ops.ones((2, 8, 8, 16)), training=True)
    >>> generated.shape == (2, 4, 4, 32)
    True

    Reference: Yang et al., 2022, "Masked Generative Distillation",
    arXiv 2205.01529.
    """

    def __init__(
        self,
        target_shape=None,
        *,
        mask_ratio=0.65,
        axis=-1,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.target_shape = target_shape and tuple(target_shape)
        self.mask_ratio = number(mask_ratio, "mask_ratio", least=0.0, below=1.0)
        self.axis = axis
        self.seed = seed
        self.masks = keras.random.SeedGenerator(seed)
        self.align = None
        self.generator = []

    def build(self, input_shape):
        check_target(self)
        source, target = channels_last(input_shape, self.axis), self._target()
        check_same_rank(self, source, target)
        if len(target) not in CONVOLUTIONS:
            raise ValueError(
                "MaskedGeneration masks positions, and a vector has none. "
                f"Received: teacher {self.target_shape}. Tap a layer whose "
                "output is a map or a sequence."
            )
        if source[-1] != target[-1]:
            self.align = self._convolution(1, "align", source)
        self.generator = [
            self._convolution(3, "generator_0", target, activation="relu"),
            self._convolution(3, "generator_1", target),
        ]

    def call(self, inputs, training=False):
        features = ops.moveaxis(inputs, self.axis, -1)
        features = match_positions(features, self._target()[1:-1])
        if self.align is not None:
            features = self.align(features)
        if training:
            features = features * self._mask(features)
        for convolution in self.generator:
            features = convolution(features)
        return ops.moveaxis(features, -1, self.axis)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.target_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "target_shape": self.target_shape,
            "mask_ratio": self.mask_ratio,
            "axis": self.axis,
            "seed": self.seed,
        }

    def _target(self):
        return channels_last((None, *self.target_shape), self.axis)

    def _convolution(self, size, name, source, activation=None):
        convolution = CONVOLUTIONS[len(source)](
            self._target()[-1],
            size,
            padding="same",
            data_format="channels_last",
            activation=activation,
            name=name,
            dtype=self.dtype_policy,
            trainable=self.trainable,
        )
        convolution.build((None,) * (len(source) - 1) + (source[-1],))
        return convolution

    def _mask(self, features):
        size, *positions, _ = ops.shape(features)

        def draw(size):
            # In float32: half precision is too coarse for a ratio.
            shape = (size, *positions, 1)
            return keras.random.uniform(shape, dtype="float32", seed=self.masks)

        drawn = drawn_for_replica(draw, size)
        return ops.cast(drawn >= self.mask_ratio, features.dtype)

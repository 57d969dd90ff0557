"""ReviewFusion: each of the student's stages, fused with deeper ones."""

import keras
import numpy as np
from keras import ops

from keras_kd._src.arguments import integer

# The authors' Kaiming initialization with a=1, as Keras calls it.
PLAIN = {"use_bias": False, "kernel_initializer": "lecun_uniform"}


@keras.saving.register_keras_serializable(package="keras_kd")
class ReviewFusion(keras.layers.Layer):
    """Fuses the student's deeper stages into its shallower ones (ReviewKD).

    Each of the teacher's stages is then the target for the student's stage of
    that depth and for all deeper ones. It is one adapter for all taps of a
    transfer, from shallow to deep, trained with the student and not part of it:

        kd.Transfer(
            kd.losses.HierarchicalContext(),
            teacher=["relu1:input", "relu2:input", "pool:input"],
            student=["stage1", "stage2", "pool"],
            teacher_adapter=[None, None, GlobalAveragePooling2D(keepdims=True)],
            adapter=kd.layers.ReviewFusion(),
            weight=5.0,
        )

    As published, the last stage is the pooled vector, as a map of one position
    (the loss compares maps, so the teacher's last map is pooled, too), and the
    teacher is tapped before its activations. The authors' warm-up of 20 epochs
    (1 on ImageNet) is the callback

        kd.callbacks.WeightAnnealing(
            0.0, 5.0, transfer="hierarchical_context", epochs=21
        )

    From the deepest stage to the first, the student's `map` becomes

        x = norm(conv1x1(map)), with `mid_channels` channels
        y = nearest(fused of the next deeper stage), at the size of x
        a, b = sigmoid(conv1x1([x, y])), two numbers per position
        fused = nearest(a * x + b * y), at the teacher's size; at the deepest: x
        output = norm(conv3x3(fused)), with the teacher's channels

    `norm` is batch normalization, over all samples regardless of weights.

    Args:
        target_shapes: the teacher's shapes without the batch, one per stage; a
            `Transfer` fills them in.
        mid_channels: number of channels of the fused maps; by default that of
            the student's deepest stage, but at most 512, as in the authors'
            code.
        data_format: `"channels_last"` or `"channels_first"`; Keras' by default.
        kwargs: as in `keras.layers.Layer`.

    Call arguments:
        inputs: list of the student's maps, shapes `(batch, height, width,
            channels)`, or vectors `(batch, channels)`, shallow to deep.
        training: whether batch normalization uses the batch's statistics, and
            updates its own.

    Returns:
        A list of tensors of shapes `(batch, *target_shape)`.

    Raises:
        ValueError: `mid_channels` is not positive; the numbers of stages and
            targets differ, or there are fewer than two; a size is unknown; the
            stages are not in order (when built).

    Example:
    >>> fusion = ReviewFusion([(8, 8, 16), (4, 4, 32)])
    >>> stages = [keras.ops.ones((2, 8, 8, 4)), keras.ops.ones((2, 4, 4, 8))]
    >>> [tuple(fused.shape) for fused in fusion(stages)]
    [(2, 8, 8, 16), (2, 4, 4, 32)]

    Reference: Chen et al., 2021, "Distilling Knowledge via Knowledge Review",
    arXiv 2104.09044.
    """

    joint = True

    def __init__(
        self,
        target_shapes=None,
        *,
        mid_channels=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if mid_channels is not None:
            mid_channels = integer(mid_channels, "mid_channels")
        self.mid_channels = mid_channels
        self.data_format = data_format or keras.config.image_data_format()
        self._axis = 1 if self.data_format == "channels_first" else -1
        self.target_shapes = target_shapes and [*map(tuple, target_shapes)]
        self.stages = []

    def build(self, input_shapes):
        sources = [_last(shape[1:], self.data_format) for shape in input_shapes]
        shapes = self.target_shapes or ()
        targets = [_last(shape, self.data_format) for shape in shapes]
        _check(sources, targets)
        mid_channels = self.mid_channels or min(512, sources[-1][-1])
        for number, (source, target) in enumerate(zip(sources, targets)):
            stage = _Stage(
                mid_channels,
                target,
                fuses=number < len(sources) - 1,
                name=f"stage_{number}",
                # Frozen before it is built, as on loading, it stays frozen.
                trainable=self.trainable,
                dtype=self.dtype_policy,
            )
            stage.build((None, *source))
            self.stages.append(stage)

    def call(self, inputs, training=False):
        results, fused = [], None
        for stage, maps in reversed(list(zip(self.stages, inputs))):
            result, fused = stage(self._as_maps(maps), fused, training=training)
            results.insert(0, result)
        return [*map(self._as_given, results, self.target_shapes)]

    def compute_output_shape(self, input_shapes):
        targets = [_last(each, self.data_format) for each in self.target_shapes]
        if self.stages and targets != [each.target for each in self.stages]:
            raise ValueError(
                f"ReviewFusion {self.name!r} was built for another teacher. "
                f"Received: teacher features {targets} (channels last). Give "
                "each transfer an adapter of its own."
            )
        return [
            (shape[0], *target)
            for shape, target in zip(input_shapes, self.target_shapes)
        ]

    def get_config(self):
        return {
            **super().get_config(),
            "target_shapes": self.target_shapes,
            "mid_channels": self.mid_channels,
            "data_format": self.data_format,
        }

    def _as_maps(self, features):
        if len(features.shape) == 2:
            return features[:, None, None, :]
        return ops.moveaxis(features, self._axis, -1)

    def _as_given(self, maps, shape):
        if len(shape) == 1:
            return maps[:, 0, 0, :]
        return ops.moveaxis(maps, -1, self._axis)


class _Stage(keras.layers.Layer):
    """One stage: its map fused with deeper ones, in the teacher's shape."""

    def __init__(self, mid_channels, target, *, fuses, **kwargs):
        super().__init__(**kwargs)
        self.target = target
        self.reduce = self._convolution(mid_channels, 1, "reduce", **PLAIN)
        self.reduce_norm = self._norm("reduce_norm")
        self.attention = fuses and self._convolution(
            2, 1, "attention", activation="sigmoid"
        )
        self.expand = self._convolution(target[-1], 3, "expand", **PLAIN)
        self.expand_norm = self._norm("expand_norm")

    def build(self, input_shape):
        mid_channels = self.reduce.filters
        self.reduce.build(input_shape)
        self.reduce_norm.build((None, None, None, mid_channels))
        if self.attention:
            self.attention.build((None, None, None, 2 * mid_channels))
        self.expand.build((None, None, None, mid_channels))
        self.expand_norm.build((None, None, None, self.expand.filters))

    def call(self, maps, deeper=None, training=False):
        fused = self.reduce_norm(self.reduce(maps), training=training)
        if self.attention:
            deeper = _nearest(deeper, maps.shape[1:3])
            both = ops.concatenate([fused, deeper], axis=-1)
            gates = self.attention(both)
            fused = fused * gates[..., :1] + deeper * gates[..., 1:]
        fused = _nearest(fused, self.target[:-1])
        return self.expand_norm(self.expand(fused), training=training), fused

    def _convolution(self, channels, size, name, **settings):
        return keras.layers.Conv2D(
            channels,
            size,
            padding="same",
            data_format="channels_last",  # TensorFlow's CPU has no other.
            name=name,
            trainable=self.trainable,
            dtype=self.dtype_policy,
            **settings,
        )

    def _norm(self, name):
        # PyTorch's defaults, which the authors keep.
        return keras.layers.BatchNormalization(
            momentum=0.9,
            epsilon=1e-5,
            name=name,
            trainable=self.trainable,
            dtype=self.dtype_policy,
        )


def _nearest(maps, size):
    """Resizes `(batch, height, width, channels)` by nearest neighbors."""
    for axis, length in enumerate(size, start=1):
        before = maps.shape[axis]
        if before != length:
            indices = np.arange(length) * before // length
            maps = ops.take(maps, indices.astype("int32"), axis=axis)
    return maps


def _last(shape, data_format):
    """A map's shape, channels last; a vector is a map of one position."""
    if len(shape) == 1:
        return (1, 1, *shape)
    if data_format == "channels_first":
        return (*shape[1:], shape[0])
    return tuple(shape)


def _check(sources, targets):
    """Raises a `ValueError` unless stages of these shapes can be fused."""
    shapes = [*sources, *targets]
    if len(sources) != len(targets) or len(sources) < 2:
        problem = "needs two or more stages, and a target for each."
    elif any(len(shape) != 3 or None in shape for shape in shapes):
        problem = "fuses maps (height, width, channels) of known sizes."
    elif sources != sorted(sources, key=lambda shape: shape[:2], reverse=True):
        problem = "takes stages from shallow (large maps) to deep (small ones)."
    elif any(t[:2] == (1, 1) != s[:2] for s, t in zip(sources, targets)):
        problem = "pairs vectors with vectors: tap where the student pools."
    else:
        return
    raise ValueError(
        f"ReviewFusion {problem} Received: student {sources}, teacher "
        f"{targets} (without the batch, channels last). Tap other layers, in "
        "models with inputs of a fixed size."
    )

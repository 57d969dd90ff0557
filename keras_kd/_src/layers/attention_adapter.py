"""AttentionAdapter: brings attention maps to the teacher's heads and tokens."""

import keras
from keras import ops

from keras_kd._src.resize import resize_axis


@keras.saving.register_keras_serializable(package="keras_kd")
class AttentionAdapter(keras.layers.Layer):
    """Matches the heads and token counts of attention maps.

    For attention maps of transformers of different shapes. Each of the
    teacher's heads is approximated by a trained mixture of the student's: the
    mixing weights are a softmax over the student's heads, so each row of a
    mixed map still sums to 1. Token axes are averaged down or interpolated up,
    and rows are rescaled to their former sums. With equal heads and tokens it
    does nothing and has no weights.

        mixed[H] = sum_h softmax_h(mixing[h, H]) * maps[h]

    Args:
        target_shape: the teacher's `(heads, queries, keys)`; a `Transfer`
            fills it in.
        kwargs: as in `keras.layers.Layer`.

    Input shape:
        `(batch, heads, queries, keys)`: attention probabilities, as the tap
        `"layer:scores"` reads them from a `keras.layers.MultiHeadAttention`.

    Output shape:
        `(batch, *target_shape)`.

    Raises:
        ValueError: a shape is not that of attention maps, or token axes of
            unknown length differ (when built).

    Example:
    >>> adapter = AttentionAdapter(target_shape=(4, 6, 6))
    >>> adapted = adapter(keras.ops.ones((2, 3, 5, 5)) / 5.0)
    >>> adapted.shape == (2, 4, 6, 6)
    True
    >>> round(float(keras.ops.convert_to_numpy(adapted)[0, 0, 0].sum()), 5)
    1.0
    """

    def __init__(self, target_shape=None, **kwargs):
        super().__init__(**kwargs)
        self.target_shape = target_shape and tuple(target_shape)
        self.mixing = None
        self.supports_masking = True

    def build(self, input_shape):
        source, target = tuple(input_shape[1:]), self.target_shape
        if target is None or len(source) != 3 or len(target) != 3:
            raise ValueError(
                "AttentionAdapter takes attention maps (heads, queries, keys). "
                f"Received: student {source}, teacher {target}. Tap the maps "
                "of an attention layer with 'layer:scores'."
            )
        unknown = source[1:] != target[1:] and None in source + target
        if unknown:
            raise ValueError(
                "AttentionAdapter can't resize token axes of unknown length. "
                f"Received: student {source}, teacher {target}. Give both "
                "models inputs of a fixed length."
            )
        # Equal token axes may be of unknown length: both sides share it.
        self._resizes = source[1:] != target[1:]
        if source[0] != target[0]:
            # Zeros: at first each head is the mean of the student's heads.
            self.mixing = self.add_weight(
                shape=(source[0], target[0]), initializer="zeros", name="mixing"
            )

    def call(self, inputs):
        maps = inputs
        if self.mixing is not None:
            mixing = ops.softmax(ops.convert_to_tensor(self.mixing), axis=0)
            maps = ops.einsum("bhqk,hH->bHqk", maps, mixing)
        if not self._resizes:
            return maps
        _, queries, keys = self.target_shape
        if maps.shape[2] != queries:
            maps = resize_axis(maps, 2, queries)
        if maps.shape[3] != keys:
            before = ops.sum(maps, axis=-1, keepdims=True)
            maps = resize_axis(maps, 3, keys)
            after = ops.sum(maps, axis=-1, keepdims=True)
            maps = maps * ops.divide_no_nan(before, after)
        return maps

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.target_shape)

    def compute_mask(self, inputs, previous_mask):
        # A mask of maps is kept if it is the same for all heads and sizes.
        each_head = previous_mask is not None and previous_mask.shape[1] != 1
        return None if each_head or self._resizes else previous_mask

    def get_config(self):
        return {**super().get_config(), "target_shape": self.target_shape}

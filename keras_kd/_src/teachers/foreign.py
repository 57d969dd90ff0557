"""ForeignTeacher: the base class of teachers from other libraries."""

import keras
import numpy as np

from keras_kd._src.distillation.teacher import Teacher
from keras_kd._src.teachers.function_teacher import checked_version
from keras_kd._src.teachers.function_teacher import warn_of_function


class ForeignTeacher(Teacher):
    """A frozen model of another library, identified by its weights.

    Args:
        name: the name in errors.
        preprocess: function from the batch's inputs to the model's, or None.
        version: text that identifies `preprocess`, or None.
    """

    def __init__(self, name, preprocess, version):
        self.name = name
        self.preprocess = preprocess
        self.version = checked_version(version)
        self._warned = False

    def warn_of_preprocess(self):
        """Warns once that a function without a version can't be identified."""
        if self.preprocess is None or self.version or self._warned:
            return
        self._warned = True
        warn_of_function(
            f"The preprocess of the teacher {self.name!r} is a function",
            f"{type(self).__name__}(..., version='2024-05')",
        )

    def prepared(self, inputs):
        """The model's inputs, from those of a batch."""
        return inputs if self.preprocess is None else self.preprocess(inputs)

    def feature_specs(self, taps, inputs):
        return keras.tree.map_structure(any_batch, self.try_out(inputs, taps))

    def try_out(self, inputs, taps):
        """The features of one sample of ones, to find their shapes."""
        given = [x for x in keras.tree.flatten(inputs) if x is not None]
        sizes = [each.shape[1:] for each in given]
        if any(None in each for each in sizes):
            raise ValueError(
                f"The teacher {self.name!r} needs the shapes of its inputs, to "
                f"find those of its outputs. Received: inputs of shapes "
                f"{sizes}, with an open size. Give the student a `keras.Input` "
                "of a fixed size."
            )
        # Ones are valid as tokens, as masks (that hide nothing), as numbers.
        ones = keras.tree.map_structure(
            lambda each: (
                None
                if each is None
                else np.ones((1, *each.shape[1:]), each.dtype)
            ),
            inputs,
        )
        return self.run(ones, taps).features


def any_batch(value):
    """A `KerasTensor` like a tensor or array, of any batch size."""
    dtype = keras.backend.standardize_dtype(value.dtype)
    return keras.KerasTensor((None, *value.shape[1:]), dtype)

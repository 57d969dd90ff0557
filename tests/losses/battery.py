"""What the tests of losses share: the contract, random features, masks."""

import functools
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_kd.testing import LossCase
from keras_kd.testing import assert_close
from keras_kd.testing import checks_of
from keras_kd.testing import value_and_gradient

GOLDEN = Path(__file__).parents[1] / "golden" / "reference_losses.npz"


# Of these, `test_weights_and_masks.py` compares all losses on each backend.
ONE_BACKEND = {"absent_positions"}


def every_check(cases):
    """Parametrizes a test `(case, check)` over all checks of all cases."""
    return pytest.mark.parametrize(
        "case, check",
        [
            pytest.param(
                case,
                check,
                id=f"{name}-{check_name}",
                marks=[pytest.mark.one_backend]
                if check_name in ONE_BACKEND
                else [],
            )
            for name, case in cases.items()
            for check_name, check in checks_of(case).items()
        ],
    )


def golden(name):
    """A case of the published code's values, as a dict of arrays."""
    with np.load(GOLDEN, allow_pickle=False) as file:
        return {
            key.split("/", 1)[1]: file[key]
            for key in file.files
            if key.startswith(f"{name}/")
        }


def assert_golden(case, name, tolerance=1e-5):
    """The published value and gradient, at the published features."""
    facts = golden(name)
    case = case._replace(
        teacher=facts["teacher"],
        student=facts["student"],
        labels=facts.get("labels"),
    )
    value, gradient = case.value_and_gradient(case.make())
    assert_close(value, facts["value"], tolerance)
    assert_close(gradient, facts["grad"], tolerance)


def random_features(*shapes, samples=6, size=1.0, seed=0):
    """Random features of the given shapes of a sample."""
    random = np.random.default_rng(seed)
    return [
        random.normal(0.0, size, (samples, *shape)).astype("float32")
        for shape in shapes
    ]


def value(loss, teacher, student, weights=None, **context):
    """The loss, run eagerly."""
    return float(
        ops.convert_to_numpy(loss(teacher, student, weights, **context))
    )


def gradient(loss, teacher, student, weights=None):
    """Of a loss, or of a function that takes what a loss takes."""
    if isinstance(loss, keras.losses.Loss):
        # Compiled once for all losses of an equal config.
        case = LossCase(None, teacher, student)
        return case.value_and_gradient(loss, weights)[1]
    function = _student_first(loss)
    return value_and_gradient(function, student, teacher, weights)[1]


@functools.cache
def _student_first(function):
    # The same one for the same function, or JAX would compile it anew.
    return lambda student, teacher, weights: function(teacher, student, weights)


def through_json(loss):
    text = json.dumps(keras.saving.serialize_keras_object(loss))
    return keras.saving.deserialize_keras_object(json.loads(text))


def assert_in_config(loss, **arguments):
    """Each argument is there after a round trip through JSON."""
    config = through_json(loss(**arguments)).get_config()
    assert {key: config[key] for key in arguments} == arguments


def refused(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "Received" in str(error.value)


def _per_sample(values, array):
    values = np.resize(values, len(array)).astype("float32")
    return values.reshape((-1,) + (1,) * (array.ndim - 1))


def shifted(array):
    """A constant added to each sample."""
    return array + _per_sample(np.linspace(-3.0, 3.0, 6), array)


def scaled(array):
    """Each sample multiplied by a positive number."""
    return array * _per_sample(np.geomspace(0.01, 100.0, 6), array)


class MaskTokens(keras.layers.Layer):
    """Puts a Keras mask on tokens, and leaves their values."""

    def __init__(self, mask):
        super().__init__()
        self.mask = mask
        self.supports_masking = True

    def call(self, tokens):
        return tokens + 0.0

    def compute_mask(self, inputs, previous_mask=None):
        return ops.convert_to_tensor(self.mask)

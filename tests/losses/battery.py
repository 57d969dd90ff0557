"""The contract of a verified loss, as tests: one for each case and check."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_kd.testing import assert_close
from keras_kd.testing import checks_of

GOLDEN = Path(__file__).parents[1] / "golden" / "reference_losses.npz"


def every_check(cases):
    """Parametrizes a test `(case, check)` over all checks of all cases."""
    return pytest.mark.parametrize(
        "case, check",
        [
            pytest.param(case, check, id=f"{name}-{check_name}")
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
    """The published value and gradient, at the published views."""
    facts = golden(name)
    case = case._replace(
        teacher=facts["teacher"],
        student=facts["student"],
        labels=facts.get("labels"),
    )
    value, gradient = case.value_and_gradient(case.make())
    assert_close(value, facts["value"], tolerance)
    assert_close(gradient, facts["grad"], tolerance)


def views(*shapes, samples=6, size=1.0, seed=0):
    """Random views of the given shapes of a sample."""
    random = np.random.default_rng(seed)
    return [
        random.normal(0.0, size, (samples, *shape)).astype("float32")
        for shape in shapes
    ]


def _per_sample(values, view):
    values = np.resize(values, len(view)).astype("float32")
    return values.reshape((-1,) + (1,) * (view.ndim - 1))


def shifted(view):
    """A constant added to each sample."""
    return view + _per_sample(np.linspace(-3.0, 3.0, 6), view)


def scaled(view):
    """Each sample multiplied by a positive number."""
    return view * _per_sample(np.geomspace(0.01, 100.0, 6), view)


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

"""What is stored of an output, against independent NumPy."""

import tempfile

import keras
import numpy as np
import pytest
from support import numpy

import keras_kd as kd


@pytest.fixture
def round_trip(tmp_path):
    """What a student gets of a teacher's output that was stored."""

    def written_and_read(encoding, output):
        flat = output.reshape(len(output), -1).astype("float32")
        inputs = keras.Input(flat.shape[1:])
        outputs = keras.layers.Reshape(output.shape[1:])(inputs)
        teacher = keras.Model(inputs, outputs)
        folder = tempfile.mkdtemp(dir=tmp_path)
        kd.cache.write(teacher, flat, folder, outputs=encoding, verbose=0)
        cached = kd.cache.open(folder)
        assert cached.outputs[""].get_config() == encoding.get_config()
        return cached.predictions_of(np.arange(len(output)))["output"]

    return written_and_read


def values(*shape, scale=3.0, seed=0):
    generator = np.random.default_rng(seed)
    return (scale * generator.normal(size=shape)).astype("float32")


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def rounded_to_bfloat16(array):
    """To the nearest, the even one of two, by hand."""
    bits = array.view("uint32").astype("uint64")
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype("uint32").view("float32")


def test_dense_keeps_float32_bit_for_bit(round_trip):
    output = values(5, 4, 3)
    found = round_trip(kd.cache.Dense("float32"), output)
    np.testing.assert_array_equal(found, output)


def test_dense_rounds_as_the_type_does(round_trip):
    output = values(5, 40)
    found = round_trip(kd.cache.Dense("float16"), output)
    np.testing.assert_array_equal(found, output.astype("float16"))
    found = round_trip(kd.cache.Dense("bfloat16"), output)
    np.testing.assert_array_equal(found, rounded_to_bfloat16(output))


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "encoding, shape, expected",
    [
        (kd.cache.Dense("float32"), (10,), 40),
        (kd.cache.Dense("bfloat16"), (7, 7, 64), 6272),
        (kd.cache.TopK(32), (1000,), 64 + 64 + 2),
        (kd.cache.TopK(4), (256,), 4 + 8 + 2),
        (kd.cache.TopK(50), (1024, 128_000), 1024 * (200 + 100 + 2)),
        (kd.cache.Int8(), (7, 7, 512), 25088),
    ],
)
def test_bytes_per_sample(encoding, shape, expected):
    assert encoding.bytes_per_sample(shape) == expected
    again = type(encoding)(**encoding.get_config())
    assert again.get_config() == encoding.get_config()


@pytest.mark.parametrize("shape", [(6, 30), (3, 4, 30)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_top_k_keeps_the_likeliest_and_the_mass_of_the_others(
    round_trip, shape, temperature
):
    logits, k = values(*shape), 5
    found = round_trip(kd.cache.TopK(k, temperature), logits)
    expected, given = softmax(logits), softmax(found)
    order = np.argsort(-expected, axis=-1)[..., :k]
    np.testing.assert_allclose(
        np.take_along_axis(given, order, -1),
        np.take_along_axis(expected, order, -1),
        rtol=4e-3 if temperature == 1 else 0.5,
    )
    # Exact at the temperature that it was written for, up to float16.
    expected, given = (
        softmax(logits / temperature),
        softmax(found / temperature),
    )
    kept = [np.take_along_axis(p, order, -1).sum(-1) for p in (expected, given)]
    np.testing.assert_allclose(*kept, rtol=2e-3)
    others = np.sort(given, axis=-1)[..., : shape[-1] - k]
    np.testing.assert_allclose(
        others, np.broadcast_to(others[..., :1], others.shape), rtol=1e-5
    )


def test_top_k_of_extreme_logits_is_finite(round_trip):
    logits = np.array([[1e4, -1e4, 0.0, 3.0], [-1e5, 1e5, 9e4, 0.0]], "float32")
    found = round_trip(kd.cache.TopK(2), logits)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found.argmax(-1), [0, 1])
    np.testing.assert_allclose(softmax(found), softmax(logits), atol=1e-6)


def test_top_k_distills_as_the_full_logits_do_where_the_tail_is_light(
    round_trip,
):
    logits, student = values(8, 40, scale=6.0), values(8, 40, seed=1)
    found = round_trip(kd.cache.TopK(30, temperature=2.0), logits)
    full, kept = (
        numpy(kd.losses.SoftTargets(2.0)(teacher, student))
        for teacher in (logits, found)
    )
    np.testing.assert_allclose(kept, full, rtol=5e-3)


def test_int8_is_within_half_a_step_of_each_channel(round_trip):
    output = values(6, 4, 4, 3) * np.array([1.0, 100.0, 0.0], "float32")
    found = round_trip(kd.cache.Int8(), output)
    step = np.abs(output).max(axis=(0, 1, 2)) / 127
    assert (np.abs(found - output).max(axis=(0, 1, 2)) <= step * 0.501).all()
    assert (
        np.abs(found - output)[..., 1].max() > 0.1
    )  # it is rounded, after all
    np.testing.assert_array_equal(found[..., 2], 0.0)


def test_int8_cuts_off_what_is_beyond_a_given_scale(round_trip):
    found = round_trip(kd.cache.Int8(scale=[0.01]), np.array([[5.0], [0.5]]))
    np.testing.assert_allclose(found[:, 0], [1.27, 0.5], rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 30), (3, 4, 30)])
def test_top_k_of_probabilities_is_refused(round_trip, shape):
    logits = values(*shape)
    probabilities = softmax(logits)
    for wrong in (probabilities, np.round(probabilities, 3)):
        with pytest.raises(ValueError, match="looks like probabilities.*Dense"):
            round_trip(kd.cache.TopK(5), wrong)
    # That one row happens to look so tells nothing.
    logits[0] = probabilities[0]
    round_trip(kd.cache.TopK(5), logits)
    round_trip(kd.cache.TopK(5), np.log(probabilities))


def test_too_large_for_float16(round_trip):
    with pytest.raises(ValueError, match="too large for float16.*70000.*bfl"):
        round_trip(kd.cache.Dense("float16"), np.array([[7e4, 1.0]]))
    found = round_trip(kd.cache.Dense("bfloat16"), np.array([[7e4, 1.0]]))
    np.testing.assert_allclose(found, [[7e4, 1.0]], rtol=4e-3)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: kd.cache.Dense("float8"), "must be one of.*float8"),
        (lambda: kd.cache.TopK(0), "`k` must be a positive integer"),
        (lambda: kd.cache.TopK(True), "`k` must be a positive integer"),
        (lambda: kd.cache.TopK(3, temperature=0.0), "`temperature` must be"),
        (
            lambda: kd.cache.TopK(3, temperature=float("nan")),
            "`temperature` must be",
        ),
        (lambda: kd.cache.Int8(scale=[1.0, 0.0]), "positive numbers"),
        (
            lambda: kd.cache.TopK(10).bytes_per_sample((10,)),
            "10 classes.*Lower k",
        ),
        (
            lambda: kd.cache.Int8().bytes_per_sample(()),
            "a scale for each channel",
        ),
        (
            lambda: kd.cache.Int8([0.1] * 3).bytes_per_sample((5, 4)),
            "for each channel",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()

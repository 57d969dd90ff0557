"""Samples that are optimized directly: impressions and inversion."""

import keras
import numpy as np
import pytest
from keras import layers
from support import numpy

import keras_kd as kd
from keras_kd import data_free

RANGE = (-2.0, 2.0)


def linear_teacher(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(3, name="head")], name="teacher"
    )


def impressions(teacher, samples=4, **settings):
    usual = dict(steps=5, batch_size=2, verbose=0, value_range=RANGE)
    return data_free.impressions(teacher, samples, **{**usual, **settings})


def softmax(logits):
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def test_targets_are_as_alike_as_the_classes():
    """So many draws at once that a Dirichlet gives its mean."""
    teacher = linear_teacher()
    kernel = numpy(teacher.get_layer("head").kernel.value).astype("float64")
    unit = kernel / np.linalg.norm(kernel, axis=0)
    similarity = unit.T @ unit
    low, high = similarity.min(1), similarity.max(1)
    similarity = (similarity - low[:, None]) / (high - low)[:, None]
    mean = similarity / similarity.sum(1, keepdims=True)

    x, targets = impressions(
        teacher,
        6,
        batch_size=6,
        concentrations=(1e7,),
        temperature=1.0,
        steps=150,
        learning_rate=0.1,
    )
    np.testing.assert_allclose(targets, mean[[0, 1, 2, 0, 1, 2]], atol=2e-3)
    # A class of no probability can't be reached in the range; the others are.
    found = softmax(numpy(teacher(x)))
    np.testing.assert_allclose(found, targets, atol=0.03)
    assert x.min() >= RANGE[0] and x.max() <= RANGE[1]


def test_an_interrupted_run_goes_on(tmp_path):
    teacher = linear_teacher()
    before = [w.copy() for w in teacher.get_weights()]
    x, targets = impressions(teacher, 5, folder=tmp_path)
    assert x.shape == (5, 6) and targets.shape == (5, 3)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    first = files[0].read_bytes()
    files[1].write_bytes(files[1].read_bytes()[:100])  # Cut in half.
    files[2].unlink()
    again, _ = impressions(teacher, 5, folder=tmp_path)
    np.testing.assert_array_equal(again, x)
    assert files[0].read_bytes() == first
    for one, other in zip(before, teacher.get_weights()):
        np.testing.assert_array_equal(one, other)
    other, _ = impressions(teacher, 5, seed=1)
    assert not np.allclose(other, x)


@pytest.mark.one_backend
def test_a_folder_of_another_run_is_refused(tmp_path):
    impressions(linear_teacher(), 2, folder=tmp_path)
    with pytest.raises(ValueError, match="another teacher or of other"):
        impressions(linear_teacher(seed=1), 2, folder=tmp_path)
    with pytest.raises(ValueError, match="another teacher or of other"):
        impressions(linear_teacher(), 2, folder=tmp_path, temperature=2.0)


def image_teacher():
    """Its class is the brightest of three channels."""
    keras.utils.set_random_seed(0)
    teacher = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.BatchNormalization(name="norm"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, name="head"),
        ],
        name="teacher",
    )
    teacher.get_layer("head").set_weights([5.0 * np.eye(3), np.zeros(3)])
    norm = teacher.get_layer("norm")
    norm.moving_mean.assign([0.2, 0.0, -0.2])
    norm.moving_variance.assign([0.5, 0.5, 0.5])
    return teacher


def test_inversion_has_the_classes_and_the_statistics():
    teacher = image_teacher()
    student = keras.Sequential(
        [keras.Input((6, 6, 3)), layers.Flatten(), layers.Dense(3)]
    )
    kept = [w.copy() for m in (teacher, student) for w in m.get_weights()]
    x, labels = data_free.invert(
        teacher,
        12,
        value_range=RANGE,
        student=student,
        steps=80,
        batch_size=12,
        jitter=1,
        verbose=0,
    )
    assert labels.tolist() == 4 * [0, 1, 2]
    np.testing.assert_array_equal(numpy(teacher(x)).argmax(-1), labels)
    np.testing.assert_allclose(x.mean((0, 1, 2)), [0.2, 0.0, -0.2], atol=0.1)
    np.testing.assert_allclose(x.var((0, 1, 2)), 0.5, atol=0.15)
    after = [w for m in (teacher, student) for w in m.get_weights()]
    for one, other in zip(kept, after):
        np.testing.assert_array_equal(one, other)


@pytest.mark.one_backend
def test_bad_input_is_refused():
    teacher = linear_teacher()
    with pytest.raises(ValueError, match="which has none"):
        data_free.invert(teacher, 4, value_range=RANGE)
    with pytest.raises(ValueError, match=r"of shape \(3, 3\)"):
        impressions(teacher, class_similarity=np.eye(2))
    for concentrations in ((), (1.0, -0.1), 0.1):
        with pytest.raises(ValueError, match="`concentrations` must be"):
            impressions(teacher, concentrations=concentrations)
    with pytest.raises(ValueError, match="`value_range` must be"):
        impressions(teacher, value_range=(1.0, 0.0))
    with pytest.raises(ValueError, match="only a Keras model gives"):
        function = kd.teachers.FunctionTeacher(lambda x: x[:, :3], (6,), 3)
        impressions(function)
    with pytest.raises(ValueError, match="have no latents"):
        data_free.invert(
            teacher,
            4,
            value_range=RANGE,
            losses=[data_free.LatentDiversity()],
        )
    with pytest.raises(ValueError, match="Pass the student"):
        apart = data_free.Disagreement(kd.losses.JensenShannon())
        data_free.invert(teacher, 4, value_range=RANGE, losses=[apart])
    inputs = keras.Input((None, 4))
    pooled = layers.GlobalAveragePooling1D()(inputs)
    of_any_length = keras.Model(inputs, layers.Dense(3)(pooled))
    with pytest.raises(ValueError, match="one input of a fixed shape"):
        impressions(of_any_length)
    with pytest.raises(ValueError, match="`class_similarity=`"):
        inputs = keras.Input((6,))
        hidden = layers.Dense(6)(inputs)
        impressions(keras.Model(inputs, hidden[:, :3]))


@pytest.mark.one_backend
@pytest.mark.one_backend
def test_samples_of_another_form_are_refused(tmp_path):
    impressions(linear_teacher(), 2, folder=tmp_path)
    (path,) = tmp_path.glob("samples_*.npz")
    with np.load(path) as file:
        kept = dict(file)
    for other in (
        {"samples": np.array([None])},
        {"samples": kept["samples"][:, :1]},
        {"samples": np.full_like(kept["samples"], np.nan)},
        {"loss": np.array([1.0, 2.0])},
    ):
        np.savez(path, **{**kept, **other})
        with pytest.raises(ValueError, match="Received: (no whole|a loss)"):
            impressions(linear_teacher(), 2, folder=tmp_path)


def test_a_folder_is_known_again_with_a_loss_inside_of_a_loss(tmp_path):
    """What is compared with the file has no address of an object in it."""
    teacher, student = linear_teacher(), linear_teacher(seed=1)
    runs = []
    for _ in range(2):
        apart = data_free.Disagreement(kd.losses.JensenShannon())
        x, _ = data_free.invert(
            teacher,
            2,
            value_range=RANGE,
            losses=[data_free.TargetClasses(), apart],
            student=student,
            steps=1,
            batch_size=2,
            folder=tmp_path,
            verbose=0,
        )
        runs.append((apart, x))
    np.testing.assert_array_equal(runs[0][1], runs[1][1])


class Mode(layers.Layer):
    """Keeps in which modes it was run."""

    def __init__(self):
        super().__init__()
        self.modes = set()

    def call(self, inputs, training=None):
        self.modes.add(training)
        return inputs


@pytest.mark.one_backend
def test_a_student_is_asked_in_inference_mode():
    mode = Mode()
    student = keras.Sequential([keras.Input((6,)), mode, layers.Dense(3)])
    mode.modes.clear()
    apart = data_free.Disagreement(kd.losses.JensenShannon())
    settings = dict(value_range=RANGE, steps=1, batch_size=2, verbose=0)
    data_free.invert(
        linear_teacher(), 2, losses=[apart], student=student, **settings
    )
    assert mode.modes == {False}
    teacher = linear_teacher()
    with pytest.raises(ValueError, match="None of the losses uses"):
        data_free.invert(
            linear_teacher(),
            2,
            losses=[data_free.TargetClasses()],
            student=student,
            **settings,
        )
    with pytest.raises(ValueError, match="must be two models"):
        data_free.invert(
            teacher, 2, losses=[apart], student=teacher, **settings
        )


@keras.saving.register_keras_serializable(package="keras_kd_tests")
class HiddenSoftmax(layers.Layer):
    """Gives probabilities, and nobody can see it."""

    def call(self, inputs):
        exponents = keras.ops.exp(inputs)
        return exponents / keras.ops.sum(exponents, axis=-1, keepdims=True)


@pytest.mark.one_backend
def test_hidden_probabilities_are_refused():
    teacher = keras.Sequential(
        [keras.Input((6,)), layers.Dense(3), HiddenSoftmax()]
    )
    with pytest.raises(ValueError, match="predicts probabilities"):
        impressions(teacher)
    teacher.layers[0].bias.assign([np.nan, 0.0, 0.0])
    with pytest.raises(ValueError, match="not finite.*before any training"):
        impressions(teacher)

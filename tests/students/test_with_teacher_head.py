"""SimKD's student: its projector, the teacher's head, and a distillation."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support import BACKEND
from support import data
from support import numpy
from support import subclassed_model
from support import weights_of

import keras_kd as kd
from keras_kd.students import with_teacher_head
from keras_kd.testing import assert_close


def randomized(model, seed=0):
    """Other statistics than those that a normalization starts with, too."""
    random = np.random.default_rng(seed)
    model.set_weights(
        [
            random.uniform(0.5, 1.5, w.shape)
            if w.ndim == 1
            else random.normal(0.0, 0.5, w.shape)
            for w in model.get_weights()
        ]
    )
    return model


def functional_teacher(end=layers.GlobalAveragePooling2D, classes=3):
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(5, 3, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(
        6, 3, 2, padding="same", activation="relu", name="stage3"
    )(x)
    x = layers.BatchNormalization(name="norm")(x)
    shared = layers.Conv2D(6, 1, name="shared")
    x = end(name="pool")(ops.relu(x + shared(shared(x))))
    x = layers.Dropout(0.5, name="dropout")(x)
    outputs = layers.Dense(classes, name="head")(x)
    return randomized(keras.Model(inputs, outputs, name="teacher"))


def sequential_teacher():
    parts = [
        layers.Conv2D(
            6, 3, 2, padding="same", activation="relu", name="stage3"
        ),
        layers.BatchNormalization(name="norm"),
        layers.GlobalAveragePooling2D(name="pool"),
        layers.Dropout(0.5, name="dropout"),
        layers.Dense(3, name="head"),
    ]
    # Layers that are part of another model, too.
    keras.Sequential([keras.Input((8, 8, 2)), *parts])
    return randomized(
        keras.Sequential([keras.Input((8, 8, 2)), *parts], name="teacher")
    )


TEACHERS = {
    "functional": functional_teacher,
    "sequential": sequential_teacher,
}


def backbone_model(strides=2, size=8, channels=4):
    return keras.Sequential(
        [
            keras.Input((size, size, 2)),
            layers.Conv2D(channels, 3, strides, padding="same", name="stage"),
        ],
        name="backbone",
    )


def tapped(model, x, *taps):
    features = kd.extract_features(model, x, ["", *taps])
    return list(features.values())


# --- the head ---------------------------------------------------------------


@pytest.mark.parametrize("kind", TEACHERS)
def test_the_head_is_the_teachers(kind):
    teacher = TEACHERS[kind]()
    student = with_teacher_head(backbone_model(), teacher, "stage3", name="s")
    assert student.name == "s"
    assert [layer.name for layer in student.layers[1:]] == [
        "backbone",
        "projector",
        "teacher_head",
    ]
    x, _ = data(samples=4)
    outputs, features = tapped(teacher, x, "stage3")
    head = student.get_layer("teacher_head")
    assert np.abs(numpy(outputs)).max() > 0.1
    for training in (False, True):  # no dropout, no batch statistics
        found = head(features, training=training)
        assert_close(numpy(found), numpy(outputs))
    assert not head.trainable_weights
    whole, projected = tapped(student, x, "projector")
    assert_close(numpy(head(projected)), numpy(whole))


def test_the_head_has_weights_of_its_own():
    teacher = functional_teacher()
    student = with_teacher_head(backbone_model(), teacher, "stage3")
    before = weights_of(teacher)
    for variable in student.get_layer("teacher_head").weights:
        variable.assign(np.zeros(variable.shape))
    for old, new in zip(before, weights_of(teacher)):
        np.testing.assert_array_equal(old, new)
    assert all(layer.trainable for layer in teacher.layers)


# --- the projector ----------------------------------------------------------


def convolved(x, kernel):
    """Stride 1, zeros around the map; a matrix is a 1x1 kernel."""
    if kernel.ndim == 2:
        return x @ kernel
    reach = kernel.shape[0] // 2
    padded = np.pad(x, [(0, 0), (reach, reach), (reach, reach), (0, 0)])
    result = 0.0
    for row, column in np.ndindex(kernel.shape[:2]):
        window = padded[:, row : row + x.shape[1], column : column + x.shape[2]]
        result = result + window @ kernel[row, column]
    return result


def projected_by_hand(x, weights, last):
    for number in range(3):
        kernel, gamma, beta, mean, variance = weights[5 * number :][:5]
        x = (convolved(x, kernel) - mean) / np.sqrt(variance + 1e-3)
        x = gamma * x + beta
        if number < 2 or last == "relu":
            x = np.maximum(x, 0.0)
    return x


@pytest.mark.parametrize("activation", ["relu", None])
@pytest.mark.parametrize("kind", ["map", "vector"])
def test_values_of_the_projector(kind, activation):
    layer = {"map": "stage3", "vector": "pool"}[kind]
    backbone = backbone_model(strides=1)  # twice the teacher's size
    if kind == "vector":
        backbone.add(layers.GlobalAveragePooling2D())
    student = randomized(
        with_teacher_head(
            backbone,
            functional_teacher(),
            layer,
            reduction=3,
            activation=activation,
        ),
        seed=1,
    )
    x, _ = data(samples=2)
    _, features, projected = tapped(student, x, "backbone", "projector")
    weights = [
        w.astype("float64")
        for w in student.get_layer("projector").get_weights()
    ]
    inner = {"map": (3, 3, 2, 2), "vector": (2, 2)}[kind]
    assert weights[5].shape == inner  # 6 channels, by 3
    features = numpy(features).astype("float64")
    if kind == "map":
        features = features.reshape(2, 4, 2, 4, 2, 4).mean(axis=(2, 4))
    expected = projected_by_hand(features, weights, activation)
    # Three layers of float32, each rounded and divided by a deviation.
    assert_close(numpy(projected), expected, tolerance=1e-4)
    assert (expected.min() < 0.0) == (activation is None)


@pytest.mark.skipif(
    not hasattr(layers, "AdaptiveAveragePooling2D"), reason="not in this Keras"
)
def test_sizes_that_do_not_divide():
    student = with_teacher_head(
        backbone_model(strides=1, size=7), functional_teacher(), "stage3"
    )
    pooling = student.get_layer("projector").layers[0]
    x = np.random.default_rng(0).normal(size=(2, 7, 7, 4)).astype("float32")
    windows = [slice(0, 2), slice(1, 4), slice(3, 6), slice(5, 7)]
    expected = [
        [x[:, r, c].mean(axis=(1, 2)) for c in windows] for r in windows
    ]
    expected = np.moveaxis(expected, 2, 0)
    assert_close(numpy(pooling(x)), expected)


def test_sequences():
    def model(units, name):
        inputs = keras.Input((6, 2))
        x = layers.Conv1D(units, 3, padding="same", name=name)(inputs)
        return inputs, x

    inputs, x = model(8, "stage")
    x = layers.Dense(3)(layers.GlobalAveragePooling1D()(x))
    teacher = keras.Model(inputs, x)
    backbone = keras.Model(*model(4, "tokens"), name="backbone")
    student = with_teacher_head(backbone, teacher, "stage")
    assert student(np.ones((2, 6, 2), "float32")).shape == (2, 3)
    assert student.get_layer("projector").output_shape == (None, 6, 8)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="convolves no such maps")
def test_channels_first():
    def convolution(filters, **kwargs):
        return layers.Conv2D(
            filters, 3, padding="same", data_format="channels_first", **kwargs
        )

    inputs = keras.Input((2, 8, 8))
    x = convolution(6, strides=2, name="stage3")(inputs)
    x = layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    teacher = keras.Model(inputs, layers.Dense(3)(x))
    backbone = keras.Sequential([keras.Input((2, 8, 8)), convolution(4)])
    student = with_teacher_head(
        backbone, teacher, "stage3", data_format="channels_first"
    )
    assert student.get_layer("projector").output_shape == (None, 6, 4, 4)
    assert student(np.ones((2, 2, 8, 8), "float32")).shape == (2, 3)


def test_backbones_of_other_kinds():
    inputs = {
        "image": keras.Input((8, 8, 2), name="image"),
        "gain": keras.Input((1,), name="gain"),
    }
    x = layers.Conv2D(4, 3, 2, padding="same")(inputs["image"])
    x = x * layers.Reshape((1, 1, 1))(inputs["gain"])
    student = with_teacher_head(
        keras.Model(inputs, x), functional_teacher(), "stage3"
    )
    assert set(student.input) == {"image", "gain"}
    batch = {"image": data(samples=2)[0], "gain": np.ones((2, 1), "float32")}
    assert student(batch).shape == (2, 3)
    student = with_teacher_head(
        subclassed_model(4, name="backbone"), functional_teacher(), "pool"
    )
    assert student(data(samples=2)[0]).shape == (2, 3)


# --- training and saving ----------------------------------------------------


def distilled(teacher, student, epochs=8, **kwargs):
    distiller = kd.Distiller(
        teacher,
        student,
        [
            kd.Transfer(
                kd.losses.FeatureMatching(),
                teacher="stage3",
                student="projector",
                **kwargs,
            )
        ],
        hard_weight=0.0,
    )
    distiller.compile(keras.optimizers.Adam(0.02), loss=None)
    return distiller.fit(
        data()[0], batch_size=12, epochs=epochs, verbose=0
    ).history["feature_matching_loss"]


def assert_unmoved(before, model):
    for old, new in zip(before, weights_of(model)):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("kind", TEACHERS)
def test_simkd(kind):
    teacher = TEACHERS[kind]()
    student = with_teacher_head(backbone_model(), teacher, "stage3")
    head, before = student.get_layer("teacher_head"), weights_of(student)
    of_head, of_teacher = weights_of(head), teacher.get_weights()
    flags = [layer.trainable for layer in teacher.layers]
    losses = distilled(teacher, student)
    assert losses[-1] < 0.95 * losses[0]
    assert_unmoved(of_head, head)
    for old, new in zip(of_teacher, teacher.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert [layer.trainable for layer in teacher.layers] == flags
    for part in ("backbone", "projector"):
        for weight in student.get_layer(part).trainable_weights:
            (old,) = (
                value
                for value, variable in zip(before, student.variables)
                if variable is weight
            )
            assert np.any(old != numpy(weight.value)), weight.path


def test_a_smaller_map_meets_the_teachers_averaged_down():
    teacher = functional_teacher()
    student = with_teacher_head(backbone_model(strides=4), teacher, "stage3")
    assert student.get_layer("projector").output_shape == (None, 2, 2, 6)
    losses = distilled(
        teacher, student, 2, teacher_adapter=layers.AveragePooling2D(2)
    )
    assert np.isfinite(losses).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_saved_without_this_library(tmp_path):
    teacher = functional_teacher()
    student = randomized(
        with_teacher_head(backbone_model(strides=1), teacher, "stage3")
    )
    assert "keras_kd" not in json.dumps(
        keras.saving.serialize_keras_object(student)
    )
    student.save(tmp_path / "student.keras")
    loaded = keras.saving.load_model(tmp_path / "student.keras")
    x, _ = data(samples=4)
    assert_close(numpy(loaded(x)), numpy(student(x)))
    head = loaded.get_layer("teacher_head")
    assert head.weights and not head.trainable_weights


@pytest.mark.skipif(BACKEND != "tensorflow", reason="exported by TensorFlow")
def test_exported(tmp_path):
    import tensorflow as tf

    student = with_teacher_head(
        backbone_model(strides=1), functional_teacher(), "stage3"
    )
    student.export(tmp_path / "student", verbose=False)
    x, _ = data(samples=4)
    served = tf.saved_model.load(tmp_path / "student")
    assert_close(numpy(served.serve(x)), numpy(student(x)))


# --- errors -----------------------------------------------------------------


def skipping_teacher():
    inputs = keras.Input((8, 8, 2), name="image")
    x = layers.Conv2D(2, 3, padding="same", name="stage3")(inputs)
    x = layers.GlobalAveragePooling2D()(layers.add([x, inputs]))
    return keras.Model(inputs, layers.Dense(3)(x), name="teacher")


def nested_teacher():
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, name="stage3"),
            layers.GlobalAveragePooling2D(),
        ],
        name="inner",
    )
    return keras.Sequential(
        [keras.Input((8, 8, 2)), inner, layers.Dense(3)], name="teacher"
    )


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "teacher, layer, message",
    [
        (
            lambda: subclassed_model(4, name="teacher"),
            "stage2",
            "Functional or Sequential.*Received: teacher=.*SubclassedModel",
        ),
        (lambda: layers.Dense(3), "stage3", "Received.*Dense"),
        (
            lambda: keras.Sequential([layers.Dense(3, name="a")]),
            "a",
            "built Functional or Sequential",
        ),
        (skipping_teacher, "stage3", r"Received.*inputs \['image'\]"),
        (nested_teacher, "inner/stage3", "Received.*outputs don't depend"),
        (functional_teacher, "head", "Received.*which is an output itself"),
        (functional_teacher, "shared", "Received.*bypass|Received.*2 tensors"),
        (functional_teacher, "stage33", r"Closest names there: \['stage3'"),
    ],
)
def test_teachers_without_such_a_head(teacher, layer, message):
    with pytest.raises(ValueError, match=message):
        with_teacher_head(backbone_model(), teacher(), layer)


def two_outputs():
    inputs = keras.Input((8, 8, 2))
    return keras.Model(inputs, [inputs, inputs + 1.0])


def any_size():
    return keras.Sequential([keras.Input((None, None, 2)), layers.Conv2D(4, 3)])


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "backbone, layer, arguments, message",
    [
        (backbone_model, "pool", {}, "rank as the teacher's.*Received"),
        (two_outputs, "stage3", {}, "one feature tensor.*Received"),
        (any_size, "stage3", {}, "where the teacher's are known.*Received"),
        (lambda: keras.Sequential([layers.Dense(3)]), "stage3", {}, "built"),
        (lambda: "resnet", "stage3", {}, "`backbone` must be.*'resnet'"),
        (backbone_model, "stage3", {"reduction": 0}, "`reduction` must be"),
        (backbone_model, "stage3", {"reduction": 7}, "number of channels, 6"),
        (backbone_model, "stage3", {"reduction": 1.5}, "Received: reduction"),
    ],
)
def test_backbones_and_arguments(backbone, layer, arguments, message):
    with pytest.raises(ValueError, match=message):
        with_teacher_head(backbone(), functional_teacher(), layer, **arguments)


@pytest.mark.one_backend
def test_maps_of_unknown_sizes():
    def model(size, strides, **kwargs):
        inputs = keras.Input((None, size, 2))
        x = layers.Conv2D(4, 3, strides, padding="same", **kwargs)(inputs)
        return inputs, x

    inputs, x = model(8, 2, name="stage3")
    x = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    teacher = keras.Model(inputs, x)
    student = with_teacher_head(keras.Model(*model(8, 1)), teacher, "stage3")
    # The known size is halved.
    assert student.get_layer("projector").output_shape == (None, None, 4, 4)
    with pytest.raises(ValueError, match=r"Received: \(1, 7\).*multiple of"):
        with_teacher_head(keras.Model(*model(7, 1)), teacher, "stage3")


def test_a_head_that_takes_one_size_only():
    teacher = functional_teacher(end=layers.Flatten)
    with_teacher_head(backbone_model(), teacher, "stage3")
    with pytest.raises(ValueError, match=r"Received: .*\(2, 2, 6\).*as large"):
        with_teacher_head(backbone_model(strides=4), teacher, "stage3")

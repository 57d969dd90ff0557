"""Models meet the data's sizes, types and keys: nothing is run on guesses."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support import MODELS
from support import cross_entropy
from support import numpy

import keras_kd as kd

POSITIONS = 6


@keras.saving.register_keras_serializable(package="keras_kd_tests")
class Positions(layers.Layer):
    """A position embedding that can't be traced with an open length."""

    def build(self, shape):
        self.table = self.add_weight(shape=(POSITIONS, shape[-1]), name="table")
        self.built = True

    def call(self, x):
        length = ops.shape(x)[1]
        return x + self.table[:length] if length <= POSITIONS else x

    def compute_output_shape(self, shape):
        return shape


def tokens(width, name, positions=True):
    inputs = keras.Input((None,), dtype="int32", name="ids")
    hidden = layers.Embedding(9, width, name="embedding")(inputs)
    if positions:
        hidden = Positions()(hidden)
    hidden = layers.Dense(width, name="hidden")(hidden)
    pooled = layers.GlobalAveragePooling1D()(hidden)
    return keras.Model(inputs, layers.Dense(3)(pooled), name=name)


def token_data(length=5, samples=12):
    random = np.random.default_rng(0)
    x = random.integers(0, 9, size=(samples, length)).astype("int32")
    return x, random.integers(0, 3, size=(samples,)).astype("int32")


def hint(**arguments):
    return kd.Transfer(
        kd.losses.FeatureMatching(),
        teacher="hidden",
        student="hidden",
        adapter=kd.layers.FeatureAdapter(),
        **arguments,
    )


def distilled(transfers=None, positions=True, **arguments):
    keras.utils.set_random_seed(0)
    models = [
        tokens(width, name, positions)
        for width, name in ((8, "teacher"), (4, "student"))
    ]
    distiller = kd.Distiller(*models, transfers or hint(), **arguments)
    distiller.compile(keras.optimizers.SGD(0.1), cross_entropy())
    return distiller


def squared_error(distiller, x):
    """The term of `hint`, in NumPy."""
    teacher, student = (
        numpy(kd.extract_features(model, x, "hidden")["hidden"])
        for model in (distiller.teacher, distiller.student)
    )
    kernel, bias = distiller.transfers[0].adapters[0].get_weights()
    return np.mean((student @ kernel + bias - teacher) ** 2)


def test_an_open_length_comes_from_the_data():
    distiller = distilled()
    x, y = token_data()
    assert distiller.transfers[0].adapters[0].weights == []
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    expected = squared_error(distiller, x)
    np.testing.assert_allclose(
        logs["feature_matching_loss"], expected, rtol=1e-5
    )
    before = distiller.transfers[0].adapters[0].get_weights()
    history = distiller.fit(x, y, 12, 3, 0).history
    assert history["loss"][-1] < history["loss"][0]
    after = distiller.transfers[0].adapters[0].get_weights()
    assert all(np.any(a != b) for a, b in zip(before, after))


def test_batches_of_other_lengths_need_no_other_adapter():
    # Of models that Keras' TensorFlow can train on several lengths.
    distiller = distilled(positions=False)
    distiller.fit(*token_data(), verbose=0)
    x, y = token_data(length=3)
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    expected = squared_error(distiller, x)
    np.testing.assert_allclose(
        logs["feature_matching_loss"], expected, rtol=1e-5
    )


def test_sizes_stated_by_hand_build_at_once(tmp_path):
    x, y = token_data()
    stated = distilled(input_shape=(None, 5))
    open_sizes = distilled()
    assert stated.transfers[0].adapters[0].built
    stated.fit(x, y, 4, shuffle=False, verbose=0)
    stated.save_weights(tmp_path / "run.weights.h5")
    loading = distilled(input_shape=(None, 5))
    loading.load_weights(tmp_path / "run.weights.h5")
    for a, b in zip(stated.get_weights(), loading.get_weights()):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="is not built yet.*input_shape"):
        open_sizes.load_weights(tmp_path / "run.weights.h5")


def test_one_that_has_not_met_its_data_is_saved_and_trains(tmp_path):
    x, y = token_data()
    for epochs in (0, 1):
        distiller = distilled()
        if epochs:
            distiller.fit(x, y, 4, shuffle=False, verbose=0)
        distiller.save(tmp_path / "run.keras")
        loaded = keras.models.load_model(tmp_path / "run.keras")
        loaded.set_teacher(distiller.teacher)
        if not epochs:  # Its adapter's weights are drawn when it is built.
            for each in (distiller, loaded):
                keras.utils.set_random_seed(1)
                each.evaluate(x, y, verbose=0)
        for each in (distiller, loaded):
            each.fit(x, y, 4, shuffle=False, verbose=0)
        for a, b in zip(distiller.get_weights(), loaded.get_weights()):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_run_that_ended_goes_on(tmp_path):
    x, y = token_data()

    class Ends(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1 and self.ends:
                raise KeyboardInterrupt

    def run(folder, ends):
        stop = Ends()
        stop.ends = ends
        distiller = distilled()
        backup = keras.callbacks.BackupAndRestore(tmp_path / folder)
        callbacks = [backup, stop]
        distiller.fit(
            x, y, 4, 3, 0, callbacks, shuffle=False, validation_data=(x, y)
        )
        return distiller

    whole = run("whole", ends=False)
    with pytest.raises(KeyboardInterrupt):
        run("ended", ends=True)
    resumed = run("ended", ends=False)
    for a, b in zip(whole.get_weights(), resumed.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_what_does_not_fit_is_said_at_the_first_batch():
    distiller = distilled(
        [
            kd.Transfer(
                kd.losses.FeatureMatching(), teacher="hidden", student="hidden"
            )
        ]
    )
    message = r"Transfer 'feature_matching', teacher 'hidden'.*Received"
    with pytest.raises(ValueError, match=message):
        distiller.fit(*token_data(), verbose=0)


@pytest.mark.one_backend
def test_what_needs_no_data_is_said_at_once():
    with pytest.raises(ValueError, match="No layer 'gone'"):
        distilled(kd.Transfer(kd.losses.FeatureMatching(), teacher="gone"))


@pytest.mark.parametrize("stated", [(None, None), (), "ids", [(None, None)]])
@pytest.mark.one_backend
def test_shapes_that_are_none(stated):
    with pytest.raises(ValueError, match="`input_shape` must.*Received"):
        distilled(input_shape=stated)


def convolutional(width, name):
    inputs = keras.Input((None, None, 3))
    hidden = layers.Conv2D(width, 3, 2, "same", name="hidden")(inputs)
    up = layers.UpSampling2D()(hidden)
    outputs = layers.Conv2D(2, 1)(layers.Concatenate()([up, inputs]))
    return keras.Model(inputs, outputs, name=name)


def test_images_of_any_size():
    models = convolutional(8, "teacher"), convolutional(4, "student")
    distiller = kd.Distiller(*models, [kd.losses.SoftTargets(), hint()])
    distiller.compile("sgd", loss=None)
    x = np.random.default_rng(0).normal(size=(6, 8, 6, 3)).astype("float32")
    logs = distiller.evaluate(x, verbose=0, return_dict=True)
    distiller.transfers.reverse()
    expected = squared_error(distiller, x)
    np.testing.assert_allclose(
        logs["feature_matching_loss"], expected, rtol=1e-4
    )


@pytest.mark.parametrize("kind", ["sequential", "subclassed"])
def test_a_student_without_inputs_is_built_by_the_data(kind):
    student = keras.Sequential([layers.Flatten(), layers.Dense(3)])
    if kind == "subclassed":

        class Student(keras.Model):
            def __init__(self):
                super().__init__()
                self.head = layers.Dense(3)

            def call(self, inputs):
                return self.head(ops.reshape(inputs, (-1, 128)))

        student = Student()
    x = np.ones((6, 8, 8, 2), "float32")
    distiller = kd.Distiller(MODELS["functional"](4, name="teacher"), student)
    distiller.compile("sgd", loss=None)
    distiller.evaluate(x[:5], verbose=0)
    assert student.built
    history = distiller.fit(x, batch_size=3, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    assert distiller.predict(x, verbose=0).shape == (6, 3)


class ByEight(layers.Layer):
    def call(self, x):
        return ops.reshape(x, (8, -1))


def fixed(name, stateful=False):
    inputs = keras.Input(batch_shape=(8, 5, 4))
    hidden = layers.GRU(5, stateful=stateful)(inputs)
    return keras.Model(inputs, layers.Dense(3)(ByEight()(hidden)), name=name)


def test_a_fixed_batch_size():
    inputs = keras.Input((5, 4))
    student = keras.Model(inputs, layers.Dense(3)(layers.GRU(5)(inputs)))
    x = np.random.default_rng(0).normal(size=(16, 5, 4)).astype("float32")
    for models in (
        (fixed("teacher", stateful=True), student),
        (keras.models.clone_model(student), fixed("student")),
    ):
        teacher, student = models
        transfer = kd.Transfer(kd.losses.LogitMatching())
        distiller = kd.Distiller(teacher, student, transfer)
        distiller.compile("sgd", loss=None)
        first, second = (
            model.predict(x[:8], batch_size=8, verbose=0) for model in models
        )
        if teacher.layers[1].stateful:
            teacher.layers[1].reset_state()
        logs = distiller.evaluate(x[:8], None, 8, 0, return_dict=True)
        expected = np.mean((first - second) ** 2)
        np.testing.assert_allclose(logs["loss"], expected, rtol=1e-4)
        distiller.fit(x, batch_size=8, verbose=0)


def dense(names, name, optional=()):
    inputs = {
        each: keras.Input((4,), name=each, optional=each in optional)
        for each in names
    }
    summed = AddGiven()(list(inputs.values()))
    return keras.Model(inputs, layers.Dense(3)(summed), name=name)


@keras.saving.register_keras_serializable(package="keras_kd_tests")
class AddGiven(layers.Layer):
    def call(self, inputs):
        return sum(each for each in inputs if each is not None)

    def compute_output_shape(self, shapes):
        return next(shape for shape in shapes if shape is not None)


def entries(*names):
    random = np.random.default_rng(0)
    return {
        name: random.normal(size=(12, 4)).astype("float32") for name in names
    }


def matched(teacher, student, x, **arguments):
    """The term of squared logits, and what it is by NumPy."""
    transfer = kd.Transfer(kd.losses.LogitMatching())
    distiller = kd.Distiller(teacher, student, transfer, **arguments)
    distiller.compile(keras.optimizers.SGD(0.0), loss=None)
    distiller.fit(x, verbose=0)
    logs = distiller.evaluate(x, verbose=0, return_dict=True)
    return logs["loss"], distiller


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_each_model_is_given_its_own_of_the_inputs(side):
    # "also" comes first by name, where Keras' Functional would take it.
    more = dense(["also", "image"], "more")
    less = dense(["image"], "less")
    models = (more, less) if side == "teacher" else (less, more)
    x = entries("also", "image", "unused")
    loss, distiller = matched(*models, x)
    of_more = more.predict({n: x[n] for n in ("also", "image")}, verbose=0)
    of_less = less.predict({"image": x["image"]}, verbose=0)
    expected = np.mean((of_more - of_less) ** 2)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    of_student = {"teacher": of_less, "student": of_more}[side]
    np.testing.assert_allclose(
        distiller.predict(x, verbose=0), of_student, rtol=1e-5
    )


def test_a_list_or_one_tensor_of_a_dict_of_inputs():
    first, second = keras.Input((4,), name="b"), keras.Input((4,), name="a")
    listed = keras.Model([first, second], layers.Dense(3)(first - second))
    one = keras.Model(second, layers.Dense(3)(second))
    x = entries("a", "b")
    loss, _ = matched(listed, one, x)
    of_list = listed.predict([x["b"], x["a"]], verbose=0)
    expected = np.mean((of_list - one.predict(x["a"], verbose=0)) ** 2)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_an_optional_input_that_is_none():
    models = [dense(["a", "x"], n, optional=["a"]) for n in ("first", "second")]
    x = {"a": None, **entries("x")}
    loss, _ = matched(*models, x)
    logits = [
        x["x"] @ kernel + bias
        for kernel, bias in (model.get_weights() for model in models)
    ]
    expected = np.mean((logits[0] - logits[1]) ** 2)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_an_input_that_the_data_does_not_bring():
    teacher, student = dense(["a", "b"], "teacher"), dense(["a"], "student")
    distiller = kd.Distiller(teacher, student)
    distiller.compile("sgd", loss=None)
    message = "teacher 'teacher' takes an input 'b', which the data does not"
    with pytest.raises(ValueError, match=message):
        distiller.fit(entries("a"), verbose=0)


@pytest.mark.one_backend
def test_shapes_of_shared_inputs_that_differ():
    wide = keras.Input((5,), name="a")
    teacher = keras.Model({"a": wide}, layers.Dense(3)(wide), name="teacher")
    message = r"'teacher' takes inputs of shape.*\(None, 5\).*Received.*4\)"
    with pytest.raises(ValueError, match=message):
        kd.Distiller(teacher, dense(["a", "b"], "student"))


def test_a_self_distiller_meets_its_data():
    exits = kd.students.Exits(
        tokens(4, "model"), {"embedding": Mean(3, name="early")}
    )
    distiller = kd.SelfDistiller(
        exits,
        kd.Transfer(
            kd.losses.SoftTargets(1.0), teacher="[final]", student="[embedding]"
        ),
    )
    distiller.compile("sgd", cross_entropy(), metrics=["accuracy"])
    history = distiller.fit(*token_data(), 12, 2, 0).history
    assert {"final_accuracy", "embedding_accuracy"} < set(history)
    assert history["loss"][1] < history["loss"][0]


@keras.saving.register_keras_serializable(package="keras_kd_tests")
class Mean(layers.Dense):
    def build(self, shape):
        super().build((shape[0], shape[-1]))

    def call(self, x, training=None):
        return super().call(ops.mean(x, axis=1))


class Labels(layers.Layer):
    """Has a `build`, no weights, and no part in predictions."""

    def build(self, shape):
        self.built = True


class Keeps(keras.Model):
    def __init__(self):
        super().__init__()
        self.head, self.encoder = layers.Dense(3), Labels()

    def call(self, x):
        return self.head(ops.reshape(x, (-1, 128)))


# Keras warns of a model that keeps a layer which its call does not build.
@pytest.mark.filterwarnings("ignore:`build")
@pytest.mark.one_backend
def test_a_layer_that_predictions_do_not_need_may_be_unbuilt():
    student = MODELS["functional"](4, name="student")
    teacher = MODELS["functional"](4, name="teacher")
    teacher.encoder, teacher.up = Labels(), layers.UpSampling2D()
    keeps = Keeps()
    with pytest.raises(ValueError, match="not built"):
        kd.Distiller(keeps, student)
    keeps(np.ones((1, 8, 8, 2), "float32"))
    for each in (teacher, keeps):
        kd.Distiller(each, student)
        kd.teachers.Ensemble([each], input_shape=(8, 8, 2))


@pytest.mark.one_backend
def test_a_layer_without_its_weights_is_named():
    class Late(layers.Layer):
        def __init__(self):
            super().__init__()
            self.late = layers.Dense(3, name="late")

        def build(self, shape):
            self.built = True

        def call(self, x):
            return self.late(x)

        def compute_output_shape(self, shape):
            return (shape[0], 3)

    inputs = keras.Input((8, 8, 2))
    teacher = keras.Model(inputs, Late()(layers.Flatten()(inputs)))
    with pytest.raises(ValueError, match=r"not built.*Received.*\['late'\]"):
        kd.Distiller(teacher, MODELS["functional"](4, name="student"))


class Seen(keras.callbacks.Callback):
    epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1


def test_arguments_by_position_as_in_keras():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    distiller = kd.Distiller(keras.models.clone_model(model), model)
    distiller.compile("sgd", cross_entropy(), None, ["accuracy"])
    x, y = np.ones((8, 4), "float32"), np.zeros((8,), "int32")
    seen = Seen()
    history = distiller.fit(x, y, 8, 2, 0, [seen], 0.0, (x, y))
    assert seen.epochs == 2
    assert len(history.history["val_accuracy"]) == 2
    logs = distiller.evaluate(x, y, 4, 0, np.zeros(8), None, None, True)
    assert logs["loss"] == 0.0
    assert distiller.predict(x, 4, 0).shape == (8, 3)

"""Bad input: what was received, what was expected, how to mend it."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from support import cross_entropy
from support import data
from support import every_layer
from support import functional_model
from support import nested_model
from support import numpy
from support import weights_of

import keras_kd as kd


def pair(**student_arguments):
    return (
        functional_model(8, name="teacher"),
        functional_model(4, name="student", **student_arguments),
    )


def features(**arguments):
    return [kd.Transfer(kd.losses.FeatureMatching(), **arguments)]


def test_tap_that_does_not_exist_names_the_closest():
    with pytest.raises(ValueError, match=r"^No layer 'stagge2'.*'stage2'"):
        kd.Distiller(*pair(), features(teacher="stagge2", student="stage2"))


def test_tap_of_a_nested_layer_without_its_path():
    teacher = nested_model(8, name="teacher")
    with pytest.raises(ValueError, match="write the path"):
        kd.Distiller(
            teacher,
            functional_model(4, name="student"),
            features(teacher="stage2", student="stage2"),
        )


def test_class_counts_that_differ():
    with pytest.raises(
        ValueError, match=r"soft_targets.*same classes.*Received.*3.*4 classes"
    ):
        kd.Distiller(*pair(classes=4))


def test_shapes_without_an_adapter():
    with pytest.raises(
        ValueError,
        match=r"'stage2'.*Received: teacher \(None, 2, 2, 16\), student "
        r"\(None, 2, 2, 8\).*FeatureAdapter",
    ):
        kd.Distiller(*pair(), features(teacher="stage2", student="stage2"))


def test_shapes_that_no_adapter_joins():
    inputs = keras.Input((None, 2))
    teacher = keras.Model(inputs, layers.Dense(3, name="a")(inputs))
    tall = keras.layers.ZeroPadding1D(1)(inputs)
    student = keras.Model(inputs, layers.Dense(4, name="a")(tall))
    transfer = kd.Transfer(
        kd.losses.FeatureMatching(),
        teacher="a",
        student="a",
        adapter=kd.layers.AttentionAdapter(),
    )
    distiller = kd.Distiller(teacher, student, [transfer])
    distiller.compile("sgd", loss=None)
    with pytest.raises(ValueError, match=r"AttentionAdapter.*Received"):
        distiller.evaluate(np.ones((2, 5, 2), "float32"), verbose=0)


def test_teacher_that_is_not_built():
    teacher = keras.Sequential([layers.Dense(3)])
    with pytest.raises(ValueError, match="not built.*Received.*Train it"):
        kd.Distiller(teacher, functional_model(4, name="student"))


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), "hot", None])
def test_temperature(temperature):
    with pytest.raises(ValueError, match="temperature.*positive.*Received"):
        kd.losses.SoftTargets(temperature=temperature)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf"), "x"])
def test_weights(weight):
    with pytest.raises(ValueError, match="weight.*non-negative.*Received"):
        kd.Transfer(kd.losses.SoftTargets(), weight=weight)
    with pytest.raises(ValueError, match="hard_weight.*Received"):
        kd.Distiller(*pair(), hard_weight=weight)


def test_assigning_a_bad_value_is_refused_and_the_old_one_stays():
    loss = kd.losses.SoftTargets(temperature=3.0)
    with pytest.raises(ValueError, match="temperature"):
        loss.temperature = 0.0
    assert float(loss.temperature) == 3.0


def test_student_that_is_the_teacher():
    model = functional_model(4, name="model")
    with pytest.raises(ValueError, match="two models.*Received.*'model'"):
        kd.Distiller(model, model)


@pytest.mark.parametrize("teacher", ["resnet", 3, np.zeros])
def test_teacher_that_is_no_model(teacher):
    with pytest.raises(ValueError, match="`teacher` must be.*Received"):
        kd.Distiller(teacher, functional_model(4, name="student"))


def test_student_that_is_no_model():
    with pytest.raises(ValueError, match="`student` must be.*Received"):
        kd.Distiller(functional_model(4, name="teacher"), "student")


def test_loss_that_is_no_loss():
    with pytest.raises(ValueError, match="`loss` must be.*Received"):
        kd.Transfer("soft_targets")


def test_numbers_of_taps_that_differ():
    with pytest.raises(ValueError, match="same number.*Received"):
        kd.Transfer(
            kd.losses.FeatureMatching(), teacher=["a", "b"], student="a"
        )


def test_training_without_a_teacher():
    distiller = kd.Distiller(None, functional_model(4, name="student"))
    distiller.compile("sgd", loss=None)
    with pytest.raises(ValueError, match="set_teacher"):
        distiller.train_on_batch(data()[0])


def test_loss_without_labels():
    distiller = kd.Distiller(*pair())
    distiller.compile("sgd", cross_entropy())
    with pytest.raises(ValueError, match="no labels.*loss=None"):
        distiller.fit(data()[0], verbose=0)


def softmaxed(model):
    return keras.Model(
        model.input, layers.Softmax()(model.output), name=model.name
    )


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_probabilities_where_logits_are_expected(side):
    models = dict(zip(("teacher", "student"), pair()))
    models[side] = softmaxed(models[side])
    distiller = kd.Distiller(**models)
    distiller.compile("sgd", loss=None)
    with pytest.warns(UserWarning, match=f"`{side}_from_logits=False`"):
        distiller.fit(data()[0], batch_size=8, verbose=0)


def test_saying_so_ends_the_warning_and_gives_the_same_loss():
    teacher, student = pair()
    x, _ = data()
    logs = []
    for model, from_logits in ((teacher, True), (softmaxed(teacher), False)):
        loss = kd.losses.SoftTargets(teacher_from_logits=from_logits)
        distiller = kd.Distiller(model, student, [kd.Transfer(loss)])
        distiller.compile(keras.optimizers.SGD(0.0), loss=None)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message="__array__ impl")
            logs.append(distiller.fit(x, verbose=0).history["loss"][0])
    np.testing.assert_allclose(logs[0], logs[1], rtol=1e-4)


def test_logits_give_no_warning():
    distiller = kd.Distiller(*pair())
    distiller.compile("sgd", loss=None)
    distiller.fit(data()[0], verbose=0)  # warnings are errors here


def test_teacher_that_is_not_finite_is_named():
    teacher, student = pair()
    kernel = teacher.get_layer("stage2").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    distiller = kd.Distiller(teacher, student)
    distiller.compile("sgd", loss=None)
    message = r"teacher 'teacher' predicted values that are not finite"
    x, _ = data()
    with pytest.raises(ValueError, match=message):
        distiller.fit(x, batch_size=8, epochs=5, verbose=0)
    with pytest.raises(ValueError, match=message):
        distiller.train_on_batch(x)
    with pytest.raises(ValueError, match=message):
        distiller.evaluate(x, verbose=0)


def test_a_failed_construction_leaves_the_models_alone():
    teacher, student = pair()
    before = weights_of(teacher) + weights_of(student)
    with pytest.raises(ValueError):
        kd.Distiller(
            teacher, student, features(teacher="stage2", student="gone")
        )
    for model in (teacher, student):
        assert not any("call" in vars(x) for x in every_layer(model))
    after = weights_of(teacher) + weights_of(student)
    assert all(np.array_equal(a, b) for a, b in zip(before, after))
    kd.Distiller(teacher, student)


def test_taps_are_put_back_when_a_pass_raises():
    class Breaks(layers.Layer):
        broken = False

        def call(self, inputs):
            if self.broken:
                raise RuntimeError("broken")
            return inputs

    inputs = keras.Input((4,))
    breaks = Breaks()
    x = layers.Dense(3, name="early")(inputs)
    student = keras.Model(inputs, layers.Dense(3)(breaks(x)), name="student")
    teacher = keras.models.clone_model(student)
    distiller = kd.Distiller(
        teacher, student, features(teacher="early", student="early")
    )
    distiller.compile("sgd", loss=None, run_eagerly=True)
    Breaks.broken = True
    with pytest.raises(Exception, match="broken"):
        distiller.train_on_batch(np.ones((2, 4), "float32"))
    assert not any("call" in vars(x) for x in every_layer(student))
    assert not any("call" in vars(x) for x in every_layer(teacher))
    assert np.isfinite(numpy(student.get_layer("early").kernel.value)).all()

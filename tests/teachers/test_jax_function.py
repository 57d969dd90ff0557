"""JAX functions and Flax modules as the teacher, in the compiled step."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support import BACKEND
from support import numpy

import keras_kd as kd
from keras_kd.teachers import JaxFunction
from keras_kd.teachers import fingerprint
from keras_kd.testing import assert_close

on_jax = pytest.mark.skipif(BACKEND != "jax", reason="runs on JAX")
random = np.random.default_rng(1)
KERNEL = random.normal(size=(4, 3)).astype("float32")
BIAS = random.normal(size=(3,)).astype("float32")
SAMPLES = random.normal(size=(10, 4)).astype("float32")


def linear(parameters, x):
    return {
        "logits": x @ parameters["kernel"] + parameters["bias"],
        "hidden": x @ parameters["kernel"],
    }


def teacher_of(kernel=KERNEL):
    import jax

    # What is no number stays as it is.
    random_key = jax.random.key(0)
    parameters = {"kernel": kernel, "bias": BIAS, "key": random_key}
    return JaxFunction(linear, parameters)


def student():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3)])


def squared(**options):
    return kd.Transfer(keras.losses.MeanSquaredError(), **options)


def compiled(distiller):
    # The rate 0: the student stays as it is.
    distiller.compile(keras.optimizers.SGD(0.0), loss=None)
    return distiller


@on_jax
def test_the_step_compares_with_what_the_function_returns():
    distiller = kd.Distiller(
        teacher_of(),
        student(),
        [
            squared(name="hidden", teacher="[hidden]"),
            squared(name="logits", teacher="[logits]"),
        ],
    )
    logs = compiled(distiller).fit(SAMPLES, batch_size=10, verbose=0).history
    predicted = distiller.student.predict(SAMPLES, verbose=0)
    hidden = SAMPLES @ KERNEL
    assert logs["hidden_loss"][0] == pytest.approx(
        np.mean((predicted - hidden) ** 2), rel=1e-5
    )
    assert logs["logits_loss"][0] == pytest.approx(
        np.mean((predicted - hidden - BIAS) ** 2), rel=1e-5
    )


@on_jax
def test_its_parameters_are_variables_of_the_step():
    import jax.numpy as jnp

    given = jnp.asarray(KERNEL)
    teacher = teacher_of(given)
    distiller = compiled(
        kd.Distiller(teacher, student(), squared(teacher="[logits]"))
    )
    first = distiller.fit(SAMPLES, batch_size=10, verbose=0).history["loss"]
    before = distiller.train_function
    np.testing.assert_array_equal(numpy(given), KERNEL)  # Not given away.
    kernel = next(each for each in teacher.variables if each.shape == (4, 3))
    np.testing.assert_array_equal(numpy(kernel.value), KERNEL)
    assert not kernel.trainable
    # A constant of the compiled step would not change.
    kernel.assign(ops.zeros((4, 3)))
    second = distiller.fit(SAMPLES, batch_size=10, verbose=0).history["loss"]
    assert distiller.train_function is before
    predicted = distiller.student.predict(SAMPLES, verbose=0)
    assert second[0] != first[0]
    assert second[0] == pytest.approx(
        np.mean((predicted - BIAS) ** 2), rel=1e-5
    )


@on_jax
def test_the_step_does_not_call_the_host():
    import jax

    def step_of(teacher):
        distiller = kd.Distiller(teacher, student())
        step = jax.jit(lambda x: distiller.complete_batch((x,))[1].teacher)
        return step.lower(SAMPLES).as_text()

    within = step_of(JaxFunction(lambda x: x @ KERNEL, version="1"))
    outside = step_of(
        kd.teachers.FunctionTeacher(lambda x: x @ KERNEL, (4,), 3, version="1")
    )
    assert "dot" in within and "callback" not in within
    assert "callback" in outside


@on_jax
def test_a_state_refuses_other_parameters(tmp_path):
    def distiller_of(kernel):
        teacher = teacher_of(kernel)
        return compiled(
            kd.Distiller(teacher, student(), squared(teacher="[logits]"))
        )

    path = tmp_path / "distiller.keras"
    distiller_of(KERNEL).save(path)
    loaded = keras.saving.load_model(path)
    with pytest.raises(ValueError, match="is not the one that this training"):
        loaded.set_teacher(teacher_of(2.0 * KERNEL))
    loaded.set_teacher(teacher_of())
    loaded.fit(SAMPLES, verbose=0)


@on_jax
def test_a_function_alone_is_told_by_its_version():
    def of(version=None):
        return fingerprint(JaxFunction(lambda x: x, version=version))

    assert not np.array_equal(of("1"), of("2"))
    with pytest.warns(UserWarning, match=r"JaxFunction\(..., version="):
        of()


@on_jax
def test_a_cache_of_its_predictions(tmp_path):
    teacher = teacher_of()
    outputs = {"[hidden]": kd.cache.Dense("float32")}
    kd.cache.write(
        teacher, SAMPLES, tmp_path, outputs=outputs, batch_size=4, verbose=0
    )
    stored = kd.cache.open(tmp_path, teacher=teacher).predictions_of(range(10))
    assert_close(stored["[hidden]"], SAMPLES @ KERNEL)


# --- Flax -------------------------------------------------------------------


def nnx_module():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(4, 8, rngs=rngs)
            self.norm = nnx.BatchNorm(8, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.head = nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x):
            hidden = self.first(x)
            return hidden, self.head(self.drop(self.norm(hidden)))

    return Net(nnx.Rngs(0))


@on_jax
def test_an_nnx_module_teaches_in_evaluation_mode():
    module = nnx_module()
    teacher = JaxFunction.of_nnx(module, output=lambda found: found[1])
    distiller = kd.Distiller(teacher, student(), squared())
    logs = compiled(distiller).fit(SAMPLES, batch_size=10, verbose=0).history
    assert not module.drop.deterministic  # As it was.
    module.eval()
    expected = numpy(module(SAMPLES)[1])
    predicted = distiller.student.predict(SAMPLES, verbose=0)
    assert logs["loss"][0] == pytest.approx(
        np.mean((predicted - expected) ** 2), rel=1e-5
    )
    assert teacher.name == "Net"


@on_jax
def test_a_linen_module_teaches():
    linen = pytest.importorskip("flax.linen")
    import jax

    module = linen.Dense(3)
    variables = module.init(jax.random.key(0), SAMPLES)
    teacher = JaxFunction(module.apply, variables, name="dense")
    distiller = kd.Distiller(teacher, student(), squared())
    found = distiller.complete_batch((ops.convert_to_tensor(SAMPLES),))[1]
    expected = numpy(module.apply(variables, SAMPLES))
    assert_close(numpy(found.teacher.output), expected)


# --- errors -----------------------------------------------------------------


@on_jax
def test_what_it_is_given_is_checked():
    with pytest.raises(ValueError, match="must be a JAX function"):
        JaxFunction(3)
    with pytest.raises(ValueError, match="a Keras model is a teacher itself"):
        JaxFunction(student())


@on_jax
def test_modules_of_flax_are_checked():
    pytest.importorskip("flax.nnx")
    with pytest.raises(ValueError, match="must be a `flax.nnx.Module`"):
        JaxFunction.of_nnx(lambda x: x)
    inputs = {"y": keras.Input((4,), name="y")}
    pupil = keras.Model(inputs, layers.Dense(3)(inputs["y"]))
    with pytest.raises(ValueError, match=r"takes \['x'\].*entries \['y'\]"):
        kd.Distiller(JaxFunction.of_nnx(nnx_module()), pupil)


@pytest.mark.skipif(BACKEND == "jax", reason="runs there")
def test_other_backends_are_refused():
    with pytest.raises(ValueError, match=f"the backend '{BACKEND}'"):
        JaxFunction(lambda x: x)

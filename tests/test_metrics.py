"""Metrics of student against teacher, compared with NumPy."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from support import BACKEND
from support import numpy

from keras_kd.metrics import TeacherAgreement
from keras_kd.metrics import TeacherDivergence
from keras_kd.metrics import TeacherMetric

# (batch, ..., classes)
SHAPES = {"classes": (6, 5), "tokens": (6, 4, 5), "pixels": (6, 3, 2, 5)}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
WEIGHTS = np.array([1.0, 0.0, 2.0, 0.5, 0.0, 3.0], "float32")


def outputs(shape, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(2, *shape)).astype("float32")


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def agreement(teacher, student):
    return (teacher.argmax(-1) == student.argmax(-1)).astype("float64")


def divergence(teacher, student, temperature=1.0):
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return (p * np.log(p / q)).sum(axis=-1)


METRICS = {
    "agreement": (TeacherAgreement, agreement),
    "divergence": (TeacherDivergence, divergence),
    "divergence_T3": (
        lambda: TeacherDivergence(temperature=3.0),
        lambda teacher, student: divergence(teacher, student, 3.0),
    ),
}
every_metric = pytest.mark.parametrize("name", METRICS)


def result(metric, *batches):
    for batch in batches:
        metric.update_state(*batch)
    return float(numpy(metric.result()))


@every_metric
@every_shape
def test_value(name, shape):
    make, reference = METRICS[name]
    teacher, student = outputs(shape)
    expected = reference(teacher.astype("float64"), student.astype("float64"))
    assert result(make(), (teacher, student)) == pytest.approx(
        expected.mean(), rel=1e-5
    )


@every_metric
@every_shape
def test_weights_of_samples(name, shape):
    make, reference = METRICS[name]
    teacher, student = outputs(shape)
    values = reference(teacher.astype("float64"), student.astype("float64"))
    values = values.reshape(6, -1).mean(axis=1)
    assert result(make(), (teacher, student, WEIGHTS)) == pytest.approx(
        (WEIGHTS * values).sum() / WEIGHTS.sum(), rel=1e-5
    )


@every_metric
def test_weights_of_tokens(name):
    make, reference = METRICS[name]
    teacher, student = outputs(SHAPES["tokens"])
    weights = np.random.default_rng(1).integers(0, 3, size=(6, 4))
    values = reference(teacher.astype("float64"), student.astype("float64"))
    assert result(
        make(), (teacher, student, weights.astype("float32"))
    ) == pytest.approx((weights * values).sum() / weights.sum(), rel=1e-5)


@every_metric
def test_weights_of_0_throughout_give_0(name):
    make, _ = METRICS[name]
    batch = (*outputs((6, 5)), np.zeros(6, "float32"))
    assert result(make(), batch) == 0.0


@every_metric
def test_batches_add_up(name):
    make, _ = METRICS[name]
    teacher, student = outputs((6, 5))
    whole = result(make(), (teacher, student, WEIGHTS))
    parts = [
        (teacher[part], student[part], WEIGHTS[part])
        for part in (slice(0, 4), slice(4, 6))
    ]
    assert result(make(), *parts) == pytest.approx(whole, rel=1e-5)
    metric = make()
    result(metric, (student, teacher * 2.0))
    metric.reset_state()
    assert result(metric, (teacher, student, WEIGHTS)) == pytest.approx(
        whole, rel=1e-5
    )


@every_shape
def test_a_perfect_copy(shape):
    teacher, _ = outputs(shape)
    assert result(TeacherAgreement(), (teacher, teacher)) == 1.0
    assert result(TeacherDivergence(), (teacher, teacher)) == 0.0


def test_agreement_by_hand():
    teacher = [[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 5.0]]
    student = [[9.0, 1.0, 0.0], [0.0, 1.0, 2.0], [-1.0, 0.0, 0.1]]
    assert result(TeacherAgreement(), (teacher, student)) == pytest.approx(
        2 / 3
    )


def test_agreement_of_one_output_is_the_side_of_0():
    teacher = np.array([[2.0], [-1.0], [-3.0], [0.5]], "float32")
    student = np.array([[0.1], [-9.0], [4.0], [-0.5]], "float32")
    assert result(TeacherAgreement(), (teacher, student)) == 0.5
    weights = np.array([1.0, 1.0, 2.0, 0.0], "float32")
    assert result(TeacherAgreement(), (teacher, student, weights)) == 0.5
    weights = np.array([3.0, 0.0, 1.0, 0.0], "float32")
    assert result(TeacherAgreement(), (teacher, student, weights)) == 0.75


@pytest.mark.parametrize("teacher_from_logits", [True, False])
@pytest.mark.parametrize("student_from_logits", [True, False])
def test_divergence_of_probabilities(teacher_from_logits, student_from_logits):
    teacher, student = outputs((6, 5))
    metric = TeacherDivergence(
        temperature=2.0,
        teacher_from_logits=teacher_from_logits,
        student_from_logits=student_from_logits,
    )
    batch = (
        teacher if teacher_from_logits else softmax(teacher),
        student if student_from_logits else softmax(student),
    )
    expected = divergence(teacher, student, 2.0).mean()
    assert result(metric, batch) == pytest.approx(expected, rel=1e-5)


@every_metric
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_outputs(name, dtype):
    make, reference = METRICS[name]
    halves = [ops.cast(view, dtype) for view in outputs((6, 5))]
    exact = [numpy(ops.cast(view, "float32")) for view in halves]
    expected = reference(*[view.astype("float64") for view in exact]).mean()
    assert result(make(), halves) == pytest.approx(expected, rel=1e-5)


@every_metric
def test_structures_of_one_output(name):
    make, _ = METRICS[name]
    teacher, student = outputs((6, 5))
    plain = result(make(), (teacher, student))
    assert result(make(), ({"a": teacher}, [student])) == plain
    assert result(make(), (teacher.tolist(), student.tolist())) == plain


@pytest.mark.parametrize(
    "teacher, student",
    [
        (np.zeros((2, 3)), np.zeros((2, 4))),
        (np.zeros((2, 3)), np.zeros((2, 5, 3))),
        ([np.zeros((2, 3)), np.zeros((2, 3))], np.zeros((2, 3))),
        (
            {"a": np.zeros((2, 3)), "b": np.zeros((2, 3))},
            {"a": np.zeros((2, 3)), "b": np.zeros((2, 3))},
        ),
    ],
)
@every_metric
def test_outputs_that_do_not_compare(name, teacher, student):
    message = r"one output of the teacher.*Received: outputs of the shapes \[\("
    with pytest.raises(ValueError, match=message):
        METRICS[name][0]().update_state(teacher, student)


def test_names():
    assert TeacherAgreement().name == "teacher_agreement"
    assert TeacherDivergence().name == "teacher_divergence"
    assert TeacherAgreement(name="copies").name == "copies"


@pytest.mark.parametrize(
    "metric",
    [
        TeacherAgreement(name="copies"),
        TeacherDivergence(
            2.0,
            teacher_from_logits=False,
            student_from_logits=False,
            name="gap",
        ),
    ],
    ids=["agreement", "divergence"],
)
def test_serialization(metric):
    text = json.dumps(keras.saving.serialize_keras_object(metric))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(copy) is type(metric)
    assert copy.get_config() == metric.get_config()
    batch = [softmax(view) for view in outputs((6, 5))]
    metric.reset_state()
    assert result(copy, batch) == result(metric, batch)


def test_a_metric_of_ones_own():
    class LargestGap(TeacherMetric):
        def values(self, teacher_output, student_output):
            return ops.max(ops.abs(teacher_output - student_output), axis=-1)

    teacher, student = outputs((6, 5))
    gaps = np.abs(teacher - student).max(axis=-1)
    assert result(LargestGap(), (teacher, student, WEIGHTS)) == pytest.approx(
        (WEIGHTS * gaps).sum() / WEIGHTS.sum(), rel=1e-5
    )


@pytest.mark.skipif(BACKEND == "torch", reason="Keras runs PyTorch eagerly")
@every_metric
def test_compiled(name):
    make, _ = METRICS[name]
    teacher, student = outputs((6, 5))
    metric = make()
    if BACKEND == "jax":
        import jax

        update = jax.jit(metric.stateless_update_state)
        variables = update(
            [variable.value for variable in metric.variables], teacher, student
        )
        compiled = metric.stateless_result(variables)
    else:
        import tensorflow as tf

        tf.function(metric.update_state)(
            tf.constant(teacher), tf.constant(student)
        )
        compiled = metric.result()
    assert float(numpy(compiled)) == pytest.approx(
        result(make(), (teacher, student)), rel=1e-5
    )

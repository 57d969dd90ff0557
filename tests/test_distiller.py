"""The traps of an overridden step, on every kind of model."""

import keras
import numpy as np
import pytest
from keras import layers
from support import BACKEND
from support import KINDS
from support import MODELS
from support import cross_entropy
from support import data
from support import every_layer
from support import functional_model
from support import numpy
from support import stage
from support import weights_of

import keras_kd as kd

MODES = {
    "eager": {"run_eagerly": True},
    "compiled": {},
}


def pair(kind, **student_arguments):
    teacher = MODELS[kind](8, name="teacher")
    student = MODELS[kind](4, name="student", **student_arguments)
    return teacher, student


def transfers(kind):
    return [
        kd.Transfer(kd.losses.SoftTargets(temperature=4.0), weight=0.9),
        kd.Transfer(
            kd.losses.FeatureMatching(),
            teacher=stage(kind, "stage2"),
            student=stage(kind, "stage2"),
            adapter=kd.layers.FeatureAdapter(),
            weight=0.5,
        ),
    ]


def distilled(kind, mode="compiled", transfer_list=None, **student_arguments):
    teacher, student = pair(kind, **student_arguments)
    distiller = kd.Distiller(
        teacher,
        student,
        transfer_list or transfers(kind),
        # What only data would tell of a subclassed model.
        input_shape=(None, 8, 8, 2) if kind == "subclassed" else None,
    )
    distiller.compile(
        optimizer=keras.optimizers.SGD(0.05),
        loss=cross_entropy(),
        metrics=["accuracy"],
        **MODES[mode],
    )
    return distiller


class Counter(layers.Layer):
    """Counts the times that it runs, and how."""

    def __init__(self, calls, **kwargs):
        super().__init__(**kwargs)
        self.note = calls.append  # the list itself would be copied by Keras

    def call(self, inputs, training=None):
        self.note(training)
        return inputs


def counted_model(calls, name):
    inputs = keras.Input((4,))
    x = Counter(calls, name="counter")(inputs)
    return keras.Model(inputs, layers.Dense(3, name="head")(x), name=name)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", MODELS)
def test_fit_trains_the_student_and_parts_add_up(kind, mode):
    distiller = distilled(kind, mode, regularizer="l2", dropout=0.1)
    x, y = data()
    before = weights_of(distiller.teacher)
    student_before = weights_of(distiller.student)

    # A ragged last batch: trackers must be weighted by batch size.
    history = distiller.fit(x, y, batch_size=10, epochs=3, verbose=0).history

    assert set(history) == {
        "loss",
        "accuracy",
        "hard_loss",
        "soft_targets_loss",
        "feature_matching_loss",
        "student_losses",
    }
    parts = [name for name in history if name not in ("loss", "accuracy")]
    total = np.sum([history[name] for name in parts], axis=0)
    np.testing.assert_allclose(history["loss"], total, rtol=1e-5)
    assert all(np.min(history[name]) > 0 for name in parts)
    assert history["loss"][-1] < history["loss"][0]
    for old, new in zip(before, weights_of(distiller.teacher)):
        np.testing.assert_array_equal(old, new)
    assert any(
        np.any(old != new)
        for old, new in zip(student_before, weights_of(distiller.student))
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", MODELS)
def test_evaluate_leaves_every_weight_as_it_was(kind, mode):
    distiller = distilled(kind, mode, dropout=0.5)
    x, y = data()
    # What a transfer counts while it looks at the views is no weight.
    counts = {
        variable.path
        for transfer in distiller.transfers
        for variable in transfer.inspection.variables
    }

    def weights():
        own = [v for v in distiller.variables if v.path not in counts]
        kept = [numpy(variable.value) for variable in own]
        return kept + weights_of(distiller.teacher)

    before = weights()
    first = distiller.evaluate(x, y, verbose=0, return_dict=True)
    second = distiller.evaluate(x, y, verbose=0, return_dict=True)

    assert first == second
    assert before
    for old, new in zip(before, weights()):
        np.testing.assert_array_equal(old, new)


def test_evaluate_lists_the_loss_and_the_metrics_before_the_parts():
    distiller = distilled("functional")
    named = distiller.evaluate(*data(), verbose=0, return_dict=True)

    loss, accuracy, *parts = distiller.evaluate(*data(), verbose=0)

    assert [loss, accuracy] == [named["loss"], named["accuracy"]]
    names = sorted(named.keys() - {"loss", "accuracy"})
    assert parts == [named[name] for name in names]


def test_student_and_teacher_run_once_a_step_in_their_mode():
    teacher_calls, student_calls = [], []
    distiller = kd.Distiller(
        counted_model(teacher_calls, "teacher"),
        counted_model(student_calls, "student"),
        [
            kd.Transfer(kd.losses.SoftTargets()),
            kd.Transfer(
                kd.losses.FeatureMatching(),
                teacher="counter",
                student="head:input",
            ),
        ],
    )
    distiller.compile("sgd", cross_entropy(), run_eagerly=True)
    x, y = np.ones((12, 4), "float32"), np.zeros((12,), "int32")
    distiller.fit(x, y, batch_size=4, verbose=0)  # builds the compiled loss
    teacher_calls.clear(), student_calls.clear()

    distiller.fit(x, y, batch_size=4, verbose=0)
    assert student_calls == [True] * 3
    assert teacher_calls == [False] * 3

    teacher_calls.clear(), student_calls.clear()
    distiller.evaluate(x, y, batch_size=4, verbose=0)
    assert student_calls == [False] * 3
    assert teacher_calls == [False] * 3

    teacher_calls.clear(), student_calls.clear()
    distiller.predict(x, batch_size=4, verbose=0)
    assert student_calls == [False] * 3
    assert teacher_calls == []


def manual_total(teacher, student, x, y, temperature, weights):
    """The loss by hand, in NumPy, of models in inference mode."""
    teacher_logits = numpy(teacher(x, training=False)).astype("float64")
    student_logits = numpy(student(x, training=False)).astype("float64")

    def log_softmax(logits):
        logits = logits - logits.max(-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    hard = -log_softmax(student_logits)[np.arange(len(y)), y].mean()
    p = log_softmax(teacher_logits / temperature)
    q = log_softmax(student_logits / temperature)
    soft = temperature**2 * (np.exp(p) * (p - q)).sum(-1).mean()
    return weights[0] * hard, weights[1] * soft


def test_default_is_hintons_method_with_the_usual_values():
    teacher, student = pair("functional")
    distiller = kd.Distiller(teacher, student)
    distiller.compile("sgd", cross_entropy())
    x, y = data()
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    hard, soft = manual_total(teacher, student, x, y, 4.0, (0.1, 0.9))
    np.testing.assert_allclose(logs["hard_loss"], hard, rtol=1e-5)
    np.testing.assert_allclose(logs["soft_targets_loss"], soft, rtol=1e-4)
    np.testing.assert_allclose(logs["loss"], hard + soft, rtol=1e-5)


def test_student_regularizer_and_add_loss_count_the_teachers_do_not():
    class AddsLoss(layers.Layer):
        def call(self, inputs):
            self.add_loss(3.0 + 0.0 * keras.ops.sum(inputs))
            return inputs

    def model(name, width):
        inputs = keras.Input((4,))
        x = layers.Dense(width, kernel_regularizer="l2")(inputs)
        x = AddsLoss()(x)
        return keras.Model(inputs, layers.Dense(3)(x), name=name)

    teacher, student = model("teacher", 8), model("student", 4)
    distiller = kd.Distiller(teacher, student)
    distiller.compile("sgd", cross_entropy())
    x, y = np.ones((8, 4), "float32"), np.zeros((8,), "int32")
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    penalty = 0.01 * np.sum(numpy(student.layers[1].kernel.value) ** 2)
    np.testing.assert_allclose(logs["student_losses"], penalty + 3.0, rtol=1e-5)


def test_sample_weight_reaches_every_term():
    distiller = distilled("functional")
    x, y = data(16)
    weight = np.array([1.0] * 8 + [0.0] * 8, "float32")
    part = distiller.evaluate(x[:8], y[:8], verbose=0, return_dict=True)
    whole = distiller.evaluate(
        x, y, sample_weight=weight, verbose=0, return_dict=True
    )
    for name in ("soft_targets_loss", "feature_matching_loss"):
        np.testing.assert_allclose(whole[name], part[name], rtol=1e-5)
    # Keras' own losses divide by the batch size instead.
    np.testing.assert_allclose(
        whole["hard_loss"], part["hard_loss"] / 2, rtol=1e-5
    )
    zero = distiller.evaluate(
        x, y, sample_weight=0 * weight, verbose=0, return_dict=True
    )
    assert zero["loss"] == 0.0


def test_class_weight_counts():
    losses = []
    for class_weight in (None, {0: 0.0, 1: 0.0, 2: 0.0}):
        keras.utils.set_random_seed(0)
        distiller = distilled("functional")
        x, y = data()
        history = distiller.fit(x, y, class_weight=class_weight, verbose=0)
        losses.append(history.history["loss"][0])
    assert losses[0] > 0.1
    assert losses[1] == 0.0


def test_trains_without_labels():
    teacher, student = pair("functional")
    distiller = kd.Distiller(teacher, student)
    distiller.compile("sgd", loss=None)
    x, _ = data()
    history = distiller.fit(x, epochs=2, verbose=0).history
    assert history["hard_loss"] == [0.0, 0.0]
    np.testing.assert_allclose(history["loss"], history["soft_targets_loss"])
    assert history["loss"][1] < history["loss"][0]


def test_adapter_trains_and_is_absent_from_the_student():
    distiller = distilled("functional")
    adapter = distiller.transfers[1].adapters[0]
    before = weights_of(adapter)
    assert len(before) == 2
    x, y = data()
    distiller.fit(x, y, verbose=0)
    assert all(np.any(a != b) for a, b in zip(before, weights_of(adapter)))
    adapter_variables = {id(variable) for variable in adapter.variables}
    student_variables = {id(v) for v in distiller.student.variables}
    assert not adapter_variables & student_variables
    assert adapter_variables < {id(v) for v in distiller.trainable_variables}


def test_the_callers_models_come_back_as_they_were():
    teacher, student = pair("functional")
    teacher.get_layer("stage1").trainable = False
    teacher.compile("adam", "mse")
    flags = [layer.trainable for layer in every_layer(teacher)]
    calls = [layer.call for layer in every_layer(teacher)]
    optimizer = teacher.optimizer
    distiller = kd.Distiller(teacher, student, transfers("functional"))
    distiller.compile("sgd", cross_entropy())
    x, y = data()
    distiller.fit(x, y, verbose=0)
    assert flags == [layer.trainable for layer in every_layer(teacher)]
    assert calls == [layer.call for layer in every_layer(teacher)]
    assert teacher.optimizer is optimizer
    assert not any("call" in vars(x) for x in every_layer(student))
    assert not student.compiled
    assert distiller.teacher is teacher
    assert distiller.student is student
    teacher.fit(x, np.zeros((len(x), 3)), verbose=0)  # still trains


def test_teacher_changes_between_fits_are_seen():
    teacher, student = pair("functional")
    distiller = kd.Distiller(teacher, student)
    distiller.compile(keras.optimizers.SGD(0.0), loss=None)
    x, _ = data()
    first = distiller.fit(x, verbose=0).history["loss"][0]
    head = teacher.get_layer("head")
    head.set_weights([10 * weight for weight in head.get_weights()])
    second = distiller.fit(x, verbose=0).history["loss"][0]
    assert second > 2 * first


def test_teacher_is_usable_in_a_callback_in_the_middle_of_an_epoch():
    distiller = distilled("functional")
    x, y = data()
    answers = []

    class Ask(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            answers.append(self.model.teacher.predict(x[:2], verbose=0))

    distiller.fit(x, y, batch_size=8, verbose=0, callbacks=[Ask()])
    assert len(answers) == 3
    np.testing.assert_array_equal(answers[0], answers[2])


def divergence(teacher_logits, student_logits, temperature=4.0):
    """Soft targets at a temperature, as NumPy has them."""
    p, q = (
        logits / temperature
        - np.log(np.exp(logits / temperature).sum(-1, keepdims=True))
        for logits in (teacher_logits, student_logits)
    )
    return temperature**2 * np.mean((np.exp(p) * (p - q)).sum(-1))


def test_several_inputs_and_outputs_with_losses_by_name():
    def model(name, width):
        first = keras.Input((4,), name="first")
        second = keras.Input((2,), name="second")
        x = layers.Dense(width)(layers.Concatenate()([first, second]))
        outputs = {
            "animal": layers.Dense(3, name="animal")(x),
            "size": layers.Dense(1, name="size")(x),
        }
        return keras.Model(
            {"first": first, "second": second}, outputs, name=name
        )

    distiller = kd.Distiller(
        model("teacher", 8),
        model("student", 4),
        [
            kd.Transfer(
                kd.losses.SoftTargets(), teacher="animal", student="animal"
            ),
            kd.Transfer(
                kd.losses.LogitMatching(), teacher="[size]", student="[size]"
            ),
        ],
    )
    distiller.compile(
        "sgd",
        loss={"animal": cross_entropy(), "size": "mse"},
        loss_weights={"animal": 1.0, "size": 0.5},
        metrics={"animal": ["accuracy"]},
    )
    x = {
        "first": np.ones((8, 4), "float32"),
        "second": np.ones((8, 2), "float32"),
    }
    y = {"animal": np.zeros((8,), "int32"), "size": np.ones((8, 1), "float32")}
    teacher, student = (
        each.predict(x, verbose=0)
        for each in (distiller.teacher, distiller.student)
    )
    history = distiller.fit(x, y, verbose=0).history
    assert "animal_accuracy" in history
    expected = {
        "soft_targets_loss": divergence(teacher["animal"], student["animal"]),
        "logit_matching_loss": np.mean(
            np.square(teacher["size"] - student["size"])
        ),
    }
    for name, value in expected.items():
        assert history[name][0] == pytest.approx(value, rel=1e-4)
    assert set(distiller.predict(x, verbose=0)) == {"animal", "size"}


def test_default_taps_pair_all_outputs():
    def model(name):
        inputs = keras.Input((4,))
        outputs = [layers.Dense(3)(inputs), layers.Dense(2)(inputs)]
        return keras.Model(inputs, outputs, name=name)

    distiller = kd.Distiller(
        model("teacher"),
        model("student"),
        kd.Transfer(kd.losses.SoftTargets(), weight=0.9),
    )
    distiller.compile("sgd", loss=None)
    x = np.ones((8, 4), "float32")
    outputs = (
        each.predict(x, verbose=0)
        for each in (distiller.teacher, distiller.student)
    )
    expected = 0.9 * sum(divergence(*pair) for pair in zip(*outputs))
    history = distiller.fit(x, verbose=0).history
    assert history["soft_targets_loss"][0] == pytest.approx(expected, rel=1e-4)


def test_masks_leave_padding_out():
    def model(name, width):
        inputs = keras.Input((6,), dtype="int32")
        x = layers.Embedding(10, width, mask_zero=True)(inputs)
        return keras.Model(inputs, layers.Dense(5)(x), name=name)

    distiller = kd.Distiller(model("teacher", 8), model("student", 4))
    distiller.compile(
        "sgd", loss=None, metrics=[kd.metrics.TeacherDivergence()]
    )
    short = np.array([[1, 2, 3, 4, 0, 0]], "int32")
    padded = np.array([[1, 2, 3, 4, 0, 0], [0] * 6], "int32")
    first = distiller.evaluate(short, verbose=0, return_dict=True)
    second = distiller.evaluate(padded, verbose=0, return_dict=True)
    for key in ("loss", "teacher_divergence"):
        assert first[key] > 0
        np.testing.assert_allclose(first[key], second[key], rtol=1e-5)


def test_layers_of_equal_paths_are_trained_alike():
    # On PyTorch, Keras takes variables of one path for one, and of two such
    # it clears one's gradient only.
    def model(name):
        def block(name):
            inputs = keras.Input((4,))
            dense = layers.Dense(4, name="dense", kernel_initializer="ones")
            return keras.Model(inputs, dense(inputs), name=name)

        inputs = keras.Input((4,))
        both = layers.Add()([block("a")(inputs), block("b")(inputs)])
        return keras.Model(inputs, both, name=name)

    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    distiller = kd.Distiller(
        model("teacher"),
        model("student"),
        [kd.Transfer(kd.losses.LogitMatching())],
    )
    for number, variable in enumerate(distiller.teacher.weights):
        variable.assign(variable * (2.0 + number))
    distiller.compile(keras.optimizers.SGD(0.1), loss=None)
    distiller.fit(x, batch_size=2, epochs=3, verbose=0)
    first, second = weights_of(distiller.student)[::2]
    assert np.any(first != 1.0)
    np.testing.assert_allclose(first, second, rtol=1e-6)


def test_repeated_transfers_get_names_of_their_own():
    teacher, student = pair("functional")
    distiller = kd.Distiller(
        teacher,
        student,
        [
            kd.Transfer(kd.losses.AttentionTransfer(), teacher=t, student=t)
            for t in ("stage1", "stage2")
        ]
        + [kd.Transfer(kd.losses.SoftTargets(), name="answers")],
    )
    distiller.compile("sgd", loss=None)
    x, _ = data()
    history = distiller.fit(x, verbose=0).history
    assert {
        "attention_transfer_loss",
        "attention_transfer_2_loss",
        "answers_loss",
    } < set(history)


def test_several_layers_in_one_transfer_sum_and_get_adapters_each():
    teacher, student = pair("functional")
    both = kd.Transfer(
        kd.losses.FeatureMatching(),
        teacher=["stage1", "stage2"],
        student=["stage1", "stage2"],
        adapter=kd.layers.FeatureAdapter(),
    )
    distiller = kd.Distiller(teacher, student, [both])
    distiller.compile("sgd", cross_entropy())
    assert [a.target_shape for a in both.adapters] == [(4, 4, 8), (2, 2, 16)]
    x, y = data()
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    singles = []
    for adapter, layer in zip(both.adapters, ("stage1", "stage2")):
        record = [
            kd.extract_features(m, x, layer)[layer] for m in (teacher, student)
        ]
        error = numpy(record[0]) - numpy(adapter(record[1]))
        singles.append(np.mean(error**2))
    np.testing.assert_allclose(
        logs["feature_matching_loss"], sum(singles), rtol=1e-4
    )
    distiller.fit(x, y, verbose=0)


def test_no_two_trained_variables_share_a_path():
    # On PyTorch, Keras would take them for one: the gradient of the other
    # would never be reset, and add up from step to step.
    teacher, student = pair("functional")
    names = ["stage1", "stage2"]
    transfer = kd.Transfer(
        kd.losses.FeatureMatching(),
        teacher=names,
        student=names,
        adapter=[layers.Conv2D(width, 1, name="stage1") for width in (8, 16)],
    )
    distiller = kd.Distiller(teacher, student, [transfer])
    paths = [variable.path for variable in distiller.trainable_variables]
    assert len(set(paths)) == len(paths)
    if BACKEND == "torch":
        parameters = {id(parameter) for parameter in distiller.parameters()}
        assert {
            id(variable.value) for variable in distiller.trainable_variables
        } <= parameters


def test_any_keras_loss_and_any_layer_will_do():
    teacher, student = pair("functional")
    distiller = kd.Distiller(
        teacher,
        student,
        [
            kd.Transfer(
                keras.losses.MeanSquaredError(),
                teacher="pool",
                student="pool",
                adapter=layers.Dense(16),
            )
        ],
    )
    distiller.compile("sgd", cross_entropy())
    x, y = data()
    history = distiller.fit(x, y, epochs=2, verbose=0).history
    errors = history["mean_squared_error_loss"]
    assert errors[1] < errors[0]


def test_teacher_metrics_in_fit_and_evaluate():
    teacher, student = pair("functional")
    distiller = kd.Distiller(teacher, student)
    distiller.compile(
        "sgd",
        cross_entropy(),
        metrics=["accuracy", kd.metrics.TeacherAgreement()],
        weighted_metrics=[kd.metrics.TeacherDivergence()],
    )
    x, y = data()
    weight = np.linspace(0.0, 1.0, len(x)).astype("float32")
    history = distiller.fit(
        x, y, sample_weight=weight, validation_data=(x, y), verbose=0
    ).history
    assert {"teacher_agreement", "val_teacher_divergence"} < set(history)
    logs = distiller.evaluate(
        x, y, sample_weight=weight, verbose=0, return_dict=True
    )
    same = numpy(teacher(x)).argmax(-1) == numpy(student(x)).argmax(-1)
    np.testing.assert_allclose(logs["teacher_agreement"], same.mean())
    divergence = kd.losses.soft_targets(
        teacher(x, training=False), student(x, training=False), temperature=1.0
    )
    np.testing.assert_allclose(
        logs["teacher_divergence"],
        np.average(numpy(divergence), weights=weight),
        rtol=1e-4,
    )


def test_train_on_batch_test_on_batch_and_predict():
    distiller = distilled("functional")
    x, y = data(8)
    first = distiller.train_on_batch(x, y, return_dict=True)
    for _ in range(5):
        last = distiller.train_on_batch(x, y, return_dict=True)
    assert last["loss"] < first["loss"]
    assert distiller.test_on_batch(x, y, return_dict=True)["loss"] > 0
    expected = numpy(distiller.student(x, training=False))
    np.testing.assert_allclose(
        distiller.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        numpy(distiller(x, training=False)), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.skipif(BACKEND == "torch", reason="Keras refuses it on PyTorch")
def test_steps_per_execution_gives_the_same_student():
    results = []
    for steps in (1, 3):
        keras.utils.set_random_seed(0)
        distiller = distilled("functional")
        distiller.compile(
            keras.optimizers.SGD(0.05),
            cross_entropy(),
            steps_per_execution=steps,
        )
        x, y = data()
        distiller.fit(x, y, batch_size=4, shuffle=False, verbose=0)
        results.append(weights_of(distiller.student))
    for one, three in zip(*results):
        np.testing.assert_allclose(one, three, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_equals_eager(kind):
    results = []
    for mode in MODES:
        keras.utils.set_random_seed(0)
        distiller = distilled(kind, mode)
        x, y = data()
        distiller.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        results.append(weights_of(distiller.student))
    for eager, compiled in zip(*results):
        np.testing.assert_allclose(eager, compiled, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(BACKEND == "torch", reason="see test_torch_compile")
def test_jit_compile():
    distiller = distilled("functional")
    distiller.compile("sgd", cross_entropy(), jit_compile=True)
    x, y = data()
    history = distiller.fit(x, y, batch_size=8, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


def test_a_student_that_shares_the_teachers_buffers_trains():
    # JAX arrays are shared by `assign`, and a step gives its buffers away.
    teacher, student = pair("functional")
    student = keras.models.clone_model(teacher)
    for variable, source in zip(student.variables, teacher.variables):
        if variable.shape == source.shape and variable.dtype == source.dtype:
            variable.assign(source.value)
    before = weights_of(teacher)
    distiller = kd.Distiller(teacher, student)
    distiller.compile("sgd", cross_entropy())
    x, y = data()
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    assert logs["soft_targets_loss"] < 1e-6
    distiller.fit(x, y, verbose=0)
    for old, new in zip(before, weights_of(teacher)):
        np.testing.assert_array_equal(old, new)


@pytest.mark.skipif(BACKEND != "torch", reason="torch.compile")
@pytest.mark.filterwarnings("ignore")  # of torch.compile's own
def test_torch_compile():
    # Dense layers: on strided convolutions PyTorch 2.13's compiler can fail.
    def model(width):
        inputs = keras.Input((4,))
        hidden = layers.Dense(width, activation="relu")(inputs)
        return keras.Model(inputs, layers.Dense(3)(hidden))

    distiller = kd.Distiller(model(8), model(4))
    distiller.compile("sgd", loss=None, jit_compile=True)
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    losses = [distiller.train_on_batch(x)[0] for _ in range(2)]
    assert losses[1] < losses[0]


def test_nothing_of_a_step_stays_on_the_distiller():
    distiller = distilled("functional")
    student = functional_model(4, name="plain")
    student.compile("sgd", cross_entropy())

    def added(model):
        """The attributes that `predict` and `evaluate` add."""
        x, y = data()
        model.fit(x, y, verbose=0)
        attributes = set(vars(model))
        model.predict(x, verbose=0)
        model.evaluate(x, y, verbose=0)
        return set(vars(model)) - attributes

    assert added(distiller) <= added(student)
    for value in vars(distiller).values():
        assert type(value).__name__ not in (
            "DynamicJaxprTracer",
            "SymbolicTensor",
        )


def test_the_distiller_stays_a_distiller_class():
    # Building a Model subclass functionally rewrites its bases for good.
    bases = kd.Distiller.__bases__
    distilled("functional")
    assert kd.Distiller.__bases__ is bases


def test_student_without_training_argument():
    class Plain(keras.Model):
        def __init__(self, name):
            super().__init__(name=name)
            self.head = layers.Dense(3)

        def call(self, inputs):
            return self.head(inputs)

    teacher, student = Plain("teacher"), Plain("student")
    teacher(np.ones((1, 4), "float32"))
    # Stated sizes build the student, too.
    distiller = kd.Distiller(teacher, student, input_shape=(None, 4))
    assert student.built
    distiller.compile("sgd", loss=None)
    distiller.fit(np.ones((8, 4), "float32"), verbose=0)


def test_unbuilt_sequential_student_is_built():
    teacher = functional_model(8, name="teacher")
    student = keras.Sequential([layers.Flatten(), layers.Dense(3)])
    distiller = kd.Distiller(teacher, student)
    assert distiller.built
    distiller.compile("sgd", cross_entropy())
    x, y = data()
    distiller.fit(x, y, verbose=0)


def test_values_that_are_not_finite_are_told_once():
    x, y = data()
    models = [
        keras.Sequential(
            [keras.Input((8, 8, 2)), keras.layers.Flatten(), layer], name=name
        )
        for name, layer in zip("ts", (keras.layers.Dense(3) for _ in "ts"))
    ]
    distiller = kd.Distiller(*models)
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
    for run in (
        lambda x: distiller.evaluate(x, y, verbose=0),
        lambda x: distiller.test_on_batch(x, y),
        lambda x: distiller.evaluate(x, y, verbose=0),
    ):
        with pytest.raises(ValueError, match="'t' predicted .*not finite"):
            run(np.full_like(x, np.nan))
        run(x)


def test_a_teacher_that_is_given_again_adds_nothing():
    teacher = functional_model(8, name="teacher")
    distiller = kd.Distiller(teacher, functional_model(4, name="student"))
    variables = len(distiller.non_trainable_variables)
    distiller.set_teacher(teacher)
    assert len(distiller.non_trainable_variables) == variables

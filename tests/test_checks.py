"""Mistakes that train on: each is warned of, once, and its like is not."""

import re
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from support import cross_entropy
from support import data
from support import functional_model

import keras_kd as kd


def pair():
    return (
        functional_model(8, name="teacher"),
        functional_model(4, name="student"),
    )


def with_end(model, activation):
    """The model, with an activation behind its logits."""
    output = layers.Activation(activation)(model.output)
    return keras.Model(model.input, output, name=model.name)


def warnings_of(distiller, *batch, epochs=2, **arguments):
    """What two fits of two epochs warn of."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(2):
            distiller.fit(
                *batch, batch_size=8, epochs=epochs, verbose=0, **arguments
            )
    return [str(w.message) for w in found if w.category is UserWarning]


def told(distiller, *batch, about, **arguments):
    """Those of the warnings that are about something; each comes once."""
    found = [
        w for w in warnings_of(distiller, *batch, **arguments) if about in w
    ]
    assert len(found) <= 1, found
    return bool(found)


# --- transfers ---------------------------------------------------------------


def test_a_loss_is_a_transfer_of_the_outputs():
    loss = kd.losses.SoftTargets(2.0)
    hint = kd.Transfer(
        kd.losses.FeatureMatching(),
        teacher="stage1",
        student="stage1",
        adapter=kd.layers.FeatureAdapter(),
    )
    for given, names in (
        (loss, ["soft_targets"]),
        ([loss, kd.losses.LogitMatching()], ["soft_targets", "logit_matching"]),
        (hint, ["feature_matching"]),
        ((loss, hint), ["soft_targets", "feature_matching"]),
    ):
        distiller = kd.Distiller(*pair(), given)
        assert [each.name for each in distiller.transfers] == names
        assert all(float(each.weight) == 1.0 for each in distiller.transfers)
    student = kd.students.peers(dict(zip(("a", "b"), pair())))
    pull = kd.Transfer(loss, teacher="[a]", student="[b]")
    assert kd.SelfDistiller(student, pull).transfers == [pull]


@pytest.mark.one_backend
@pytest.mark.parametrize("transfers", ["kd", 3, [None], {"a": 1}, keras.losses])
def test_transfers_that_are_none(transfers):
    with pytest.raises(
        ValueError, match="`transfers` must be a loss.*Received"
    ):
        kd.Distiller(*pair(), transfers)


@pytest.mark.one_backend
@pytest.mark.parametrize("tap", [0, 1, False, 2.5, b"head"])
def test_taps_that_are_no_text(tap):
    for side in ("teacher", "student"):
        with pytest.raises(ValueError, match="A tap is a string.*Received"):
            kd.Transfer(kd.losses.SoftTargets(), **{side: tap})


# --- what a distiller says of itself ------------------------------------------


def test_summary_and_repr_show_teacher_student_and_terms():
    distiller = kd.Distiller(
        *pair(),
        [
            kd.Transfer(
                kd.losses.SoftTargets(3.0),
                rules=[kd.rules.DropWrong()],
                weight=0.9,
            ),
            kd.Transfer(
                kd.losses.FeatureMatching(),
                teacher="stage2",
                student="stage1:input",
                adapter=kd.layers.FeatureAdapter(),
                weight=kd.schedules.Annealing(0.5, 0.0, steps=9),
            ),
        ],
        hard_weight=0.2,
    )
    distiller.compile("sgd", cross_entropy())
    teacher, student = distiller.teacher, distiller.student
    adapter = distiller.transfers[1].adapters[0]
    lines = []
    distiller.summary(print_fn=lambda text, **_: lines.append(text))
    for text in ("\n".join(lines), repr(distiller)):
        for part in (
            f"teacher (Functional, {teacher.count_params():,} parameters)",
            f"student (Functional, {student.count_params():,} parameters)",
            "sparse_categorical_crossentropy, hard_weight 0.2",
            "soft_targets: SoftTargets, teacher 'output' -> student 'output', "
            "weight 0.9, temperature 3, rule DropWrong",
            "teacher 'stage2' -> student 'stage1:input', weight 0.5 (moved by "
            "Annealing), adapter FeatureAdapter "
            f"({adapter.count_params():,} parameters)",
        ):
            assert part in text, text
    assert "Total params" in "\n".join(lines)
    assert "teacher not set" in repr(kd.Distiller(None, student))


# --- inputs -------------------------------------------------------------------


def of_shape(shape, name):
    return keras.Sequential(
        [keras.Input(shape), layers.Flatten(), layers.Dense(3)], name=name
    )


def test_a_teacher_of_other_inputs_than_the_student():
    with pytest.raises(ValueError) as error:
        kd.Distiller(of_shape((6,), "teacher"), of_shape((4,), "student"))
    assert "teacher 'teacher' takes inputs of shape (None, 6)" in str(
        error.value
    )
    assert "Received: inputs of shape (None, 4)" in str(error.value)


def test_inputs_of_a_wrong_shape_are_one_sentence():
    distiller = kd.Distiller(
        of_shape((4,), "teacher"), of_shape((4,), "student")
    )
    distiller.compile("sgd", cross_entropy())
    x, y = np.ones((8, 5), "float32"), np.zeros(8)
    for run in (
        lambda: distiller.fit(x, y, verbose=0),
        lambda: distiller.evaluate(x, y, verbose=0),
        lambda: distiller.train_on_batch(x, y),
        lambda: distiller.test_on_batch(x, y),
    ):
        with pytest.raises(ValueError) as error:
            run()
        text = str(error.value)
        assert "takes inputs of shape (None, 4)" in text, text
        # TensorFlow leaves the batch size open when it traces a step again.
        assert re.search(r"Received: inputs of shape \((8|None), 5\)", text)
        assert text.count("\n") == 0, text
    distiller.fit(x[:, :4], y, verbose=0)


# --- warnings -----------------------------------------------------------------


def test_labels_without_a_loss():
    x, y = data()
    about = "labels, and nothing uses them"
    distiller = kd.Distiller(*pair())
    distiller.compile("sgd", loss=None)
    assert told(distiller, x, y, about=about)
    distiller.compile("sgd", loss=None)
    assert not told(distiller, x, about=about)
    distiller.compile("sgd", loss=None, metrics=["accuracy"])
    assert not told(distiller, x, y, about=about)
    distiller.compile("sgd", cross_entropy())
    assert not told(distiller, x, y, about=about)
    wrong = kd.Transfer(
        kd.losses.SoftTargets(), rules=[kd.rules.DropWrong()], weight=0.5
    )
    distiller = kd.Distiller(*pair(), wrong)
    distiller.compile("sgd", loss=None)
    assert not told(distiller, x, y, about=about)


BINARY = keras.losses.BinaryCrossentropy
SPARSE = keras.losses.SparseCategoricalCrossentropy


@pytest.mark.parametrize(
    "loss, end, warned",
    [
        (SPARSE(from_logits=True), "softmax", "expects logits"),
        (SPARSE(from_logits=True), "sigmoid", "expects logits"),
        (SPARSE(from_logits=True), "linear", None),
        (SPARSE(), "softmax", None),
        (SPARSE(), "linear", "expects probabilities"),
        ("sparse_categorical_crossentropy", "linear", "expects probabilities"),
    ],
)
def test_a_compiled_loss_of_the_other_kind(loss, end, warned):
    teacher, student = pair()
    distiller = kd.Distiller(
        teacher,
        with_end(student, end),
        kd.Transfer(
            kd.losses.SoftTargets(student_from_logits=end != "softmax"),
        ),
    )
    distiller.compile(keras.optimizers.SGD(0.0), loss)
    assert told(distiller, *data(), about="The compiled loss") == bool(warned)
    distiller.compile(keras.optimizers.SGD(0.0), loss)
    found = " ".join(warnings_of(distiller, *data()))
    assert not warned or warned in found


@pytest.mark.parametrize("end", ["sigmoid", "linear"])
def test_a_compiled_loss_of_yes_and_no(end):
    models = [
        with_end(functional_model(4, name=name, classes=1), end)
        for name in ("teacher", "student")
    ]
    x, y = data(classes=2)
    for from_logits in (True, False):
        distiller = kd.Distiller(*models, kd.losses.FeatureMatching())
        distiller.compile(keras.optimizers.SGD(0.0), BINARY(from_logits))
        right = from_logits == (end == "linear")
        y_column = y[:, None].astype("float32")
        assert told(distiller, x, y_column, about="compiled loss") != right


def test_each_output_has_its_loss():
    inputs = keras.Input((4,))
    outputs = {
        "a": layers.Dense(3, name="a")(inputs),
        "b": layers.Dense(3, activation="softmax", name="b")(inputs),
    }
    student = keras.Model(inputs, outputs)
    teacher = keras.models.clone_model(student)
    x, y = np.random.default_rng(0).normal(size=(16, 4)), np.arange(16) % 3
    for kinds, warned in (((True, False), []), ((False, True), ["a", "b"])):
        distiller = kd.Distiller(
            teacher,
            student,
            kd.Transfer(
                kd.losses.FeatureMatching(), teacher="[a]", student="[a]"
            ),
        )
        losses = {
            name: SPARSE(from_logits=kind) for name, kind in zip("ab", kinds)
        }
        distiller.compile(keras.optimizers.SGD(0.0), losses)
        found = warnings_of(distiller, x.astype("float32"), {"a": y, "b": y})
        found = [w for w in found if "The compiled loss" in w]
        assert [f"output ({name})" in w for name, w in zip(warned, found)] == [
            True
        ] * len(warned)
        assert len(found) == len(warned)


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_sigmoid_outputs_where_logits_are_expected(side):
    models = dict(zip(("teacher", "student"), pair()))
    models[side] = with_end(models[side], "sigmoid")
    distiller = kd.Distiller(**models)
    distiller.compile("sgd", loss=None)
    about = f"`{side}_from_logits=False`"
    assert told(distiller, data()[0], about=about)


def labeled(samples=120):
    x, _ = data(samples)
    return x, (np.arange(samples) % 3).astype("int32")


class Fixed(kd.teachers.Teacher):
    """Predicts a class that the inputs name in their first pixel."""

    name = "fixed"

    def predictions(self, batch, taps, state_mapping=None, training=True):
        classes = keras.ops.cast(batch.inputs[:, 0, 0, 0], "int32")
        logits = 9.0 * keras.ops.one_hot(classes, 3, dtype="float32")
        return self.at_output(logits, taps)


@pytest.mark.parametrize(
    "shift, samples, warned",
    [(1, 120, True), (0, 120, False), (1, 96, False)],
)
def test_a_teacher_no_better_than_chance(shift, samples, warned):
    x, y = labeled(samples)
    x[:, 0, 0, 0] = (y + shift) % 3
    distiller = kd.Distiller(Fixed(), functional_model(4, name="student"))
    distiller.compile("sgd", cross_entropy())
    about = "'fixed' is no better than chance"
    assert told(distiller, x, y, about=about) == warned
    # Without labels nothing is known of it.
    distiller.compile("sgd", cross_entropy())
    without = np.full(samples, -1)
    ignoring = SPARSE(from_logits=True, ignore_class=-1)
    distiller.compile("sgd", ignoring)
    assert not told(distiller, x, without, about=about)


class FixedTokens(kd.teachers.Teacher):
    """Predicts the classes that its inputs are."""

    name = "fixed"

    def predictions(self, batch, taps, state_mapping=None, training=True):
        logits = 9.0 * keras.ops.one_hot(batch.inputs, 3, dtype="float32")
        return self.at_output(logits, taps)


@pytest.mark.parametrize("shift, warned", [(0, False), (1, True)])
def test_a_teacher_of_long_texts_is_judged_by_some_positions(shift, warned):
    x = np.random.default_rng(0).integers(0, 3, size=(32, 40)).astype("int32")
    y = (x + shift) % 3
    y[:, :20] = (x[:, :20] + 1 - shift) % 3
    weights = np.ones((32, 40), "float32")
    weights[:, :20] = 0.0  # The prompts.
    inputs = keras.Input((40,), dtype="int32")
    student = keras.Model(inputs, layers.Embedding(3, 3)(inputs))
    distiller = kd.Distiller(FixedTokens(), student)
    distiller.compile("sgd", cross_entropy())
    about = "'fixed' is no better than chance"
    found = told(distiller, x, y, sample_weight=weights, about=about)
    assert found == warned


@pytest.mark.parametrize(
    "weight, warned", [(1e-6, True), (0.5, False), (0.0, False)]
)
def test_a_term_that_is_too_small_to_matter(weight, warned):
    distiller = kd.Distiller(
        *pair(), kd.Transfer(kd.losses.SoftTargets(), weight=weight)
    )
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
    about = "Transfer 'soft_targets' is "
    assert told(distiller, *data(), about=about) == warned


def quiet(distiller, *batch, **arguments):
    """Fails if two fits of two epochs warn of anything."""
    found = warnings_of(distiller, *batch, **arguments)
    assert not found, found


def test_a_teacher_that_is_not_compared_by_class_is_not_judged():
    x, y = labeled()
    hint = kd.Transfer(
        kd.losses.FeatureMatching(), teacher="stage1", student="stage1"
    )
    teacher = functional_model(4, name="teacher", classes=50)
    distiller = kd.Distiller(teacher, functional_model(4, name="student"), hint)
    distiller.compile(keras.optimizers.SGD(0.01), cross_entropy())
    quiet(distiller, x, y)


def test_a_teacher_that_follows_its_student_is_not_judged():
    x, y = labeled()
    student = functional_model(4, name="student")
    teacher = kd.teachers.MovingAverage(student)
    distiller = kd.Distiller(teacher, student, kd.losses.SoftTargets())
    distiller.compile(keras.optimizers.SGD(1e-6), cross_entropy())
    quiet(distiller, x, y)
    peers = dict(zip(("a", "b"), pair()))
    peers["b"] = functional_model(8, name="b")
    peers["b"].set_weights(peers["a"].get_weights())
    peers = kd.students.peers(peers)
    distiller = kd.SelfDistiller(peers, kd.schemes.mutual_learning(peers))
    distiller.compile(keras.optimizers.SGD(1e-6), cross_entropy())
    quiet(distiller, x, y)


def test_labels_that_do_not_count_are_no_measure_of_the_teacher():
    x, y = labeled(240)
    x[:, 0, 0, 0] = y
    x[::2, 0, 0, 0] = (y[::2] + 1) % 3  # Half of the predictions are wrong,
    x[1::4, 0, 0, 0] = (y[1::4] + 1) % 3  # and of the others again half.
    weights = (x[:, 0, 0, 0] == y).astype("float32")
    weights[:2] = 1.0
    distiller = kd.Distiller(Fixed(), functional_model(4, name="student"))
    distiller.compile("sgd", cross_entropy())
    about = "no better than chance"
    assert told(distiller, x, y, about=about)
    distiller.compile("sgd", cross_entropy())
    assert not told(distiller, x, y, sample_weight=weights, about=about)
    distiller.compile("sgd", SPARSE(from_logits=True, ignore_class=255))
    y[weights == 0] = 255
    assert not told(distiller, x, y, about=about)


def test_terms_that_are_small_for_now():
    x, y = data()
    rising = kd.schedules.Annealing(1e-6, 1.0, steps=1000)
    teacher, student = pair()
    same = functional_model(8, name="same")
    same.set_weights(teacher.get_weights())
    for learner, weight in ((student, rising), (same, 1.0)):
        soft = kd.Transfer(kd.losses.SoftTargets(), weight=weight)
        distiller = kd.Distiller(teacher, learner, soft)
        distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
        quiet(distiller, x, y)


@pytest.mark.parametrize("hard_weight, warned", [(0.0, False), (0.1, True)])
def test_a_compiled_loss_that_does_not_count(hard_weight, warned):
    distiller = kd.Distiller(*pair(), hard_weight=hard_weight)
    distiller.compile(keras.optimizers.SGD(0.0), SPARSE(from_logits=False))
    assert told(distiller, *data(), about="The compiled loss") == warned


def test_a_transfer_that_keeps_nothing_is_used_again():
    transfer = kd.Transfer(kd.losses.SoftTargets())
    for _ in range(2):
        distiller = kd.Distiller(*pair(), transfer)
        distiller.compile("sgd", cross_entropy())
        quiet(distiller, *data())


def test_what_another_distiller_has_trained_is_used_again():
    x, y = data()
    adapter = kd.layers.FeatureAdapter()

    def hint():
        return kd.Transfer(
            kd.losses.FeatureMatching(),
            teacher="stage1",
            student="stage1",
            adapter=adapter,
        )

    first = hint()
    distiller = kd.Distiller(*pair(), first)
    # It was not trained: a new beginning is none the worse.
    distiller = kd.Distiller(*pair(), first)
    distiller.compile("sgd", cross_entropy())
    distiller.fit(x, y, verbose=0)
    with pytest.warns(UserWarning, match="transfer .* 1 training steps"):
        kd.Distiller(*pair(), first)
    distiller.fit(x, y, verbose=0)
    third = hint()
    with pytest.warns(UserWarning, match="adapter .*trained in another"):
        kd.Distiller(*pair(), third)
    # Its own teacher given anew is no other distiller.
    distiller = kd.Distiller(*pair(), kd.Transfer(kd.losses.SoftTargets()))
    distiller.compile("sgd", cross_entropy())
    distiller.fit(x, y, verbose=0)
    distiller.set_teacher(functional_model(8, name="another"))


def test_an_ensemble_at_another_temperature():
    members = [functional_model(4, name=name) for name in ("a", "b")]
    student = functional_model(4, name="student")
    ensemble = kd.teachers.Ensemble(members, temperature=2.0)
    with pytest.warns(UserWarning, match="Received: two temp.*`temperature=4`"):
        kd.Distiller(ensemble, student)
    kd.Distiller(ensemble, student, kd.losses.SoftTargets(2.0))
    # The mean of logits has no temperature; one that moves can't be met.
    logits = kd.teachers.Ensemble(members, average="logits")
    kd.Distiller(logits, student)
    moving = kd.schedules.Annealing(4.0, 1.0, steps=9)
    kd.Distiller(ensemble, student, kd.losses.SoftTargets(moving))


# --- kinds of teacher ---------------------------------------------------------


class ByColumn(kd.teachers.Teacher):
    """Several models, of which each sample's last label names one."""

    name = "by_column"

    def __init__(self, models):
        self.models = models
        self.variables = [v for model in models for v in model.variables]

    def predictions(self, batch, taps, state_mapping=None, training=True):
        with keras.StatelessScope(state_mapping=state_mapping):
            each = [
                model(batch.inputs, training=False) for model in self.models
            ]
        if batch.labels is None:  # While shapes are found.
            return self.at_output(each[0], taps)
        first = keras.ops.equal(batch.labels[:, 1:], 0)
        logits = keras.ops.where(first, *each)
        return self.at_output(keras.ops.stop_gradient(logits), taps)

    def fingerprint(self):
        return np.concatenate([kd.teachers.fingerprint(m) for m in self.models])


def test_a_kind_of_teacher_of_ones_own(tmp_path):
    x, y = data()
    which = np.arange(len(x)) % 2
    models = [functional_model(8, name=name) for name in ("a", "b")]
    student = functional_model(4, name="student")
    distiller = kd.Distiller(
        ByColumn(models), student, kd.losses.LogitMatching()
    )
    distiller.compile(
        keras.optimizers.SGD(0.01),
        loss=None,
        metrics=[kd.metrics.TeacherDivergence()],
    )
    labels = np.stack([y, which], axis=1)
    with pytest.warns(UserWarning, match="nothing uses them"):
        logs = distiller.evaluate(x, labels, verbose=0, return_dict=True)
        distiller.fit(x, labels, epochs=2, verbose=0)
    a, b = (model.predict(x, verbose=0) for model in models)
    assert logs["logit_matching_loss"] > 0
    assert distiller.teacher.models == models
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    with pytest.raises(ValueError, match="not the one that this training"):
        loaded.set_teacher(ByColumn(models[::-1]))
    loaded.set_teacher(ByColumn(models))
    again = loaded.evaluate(x, labels, verbose=0, return_dict=True)
    now = distiller.evaluate(x, labels, verbose=0, return_dict=True)
    assert again == pytest.approx(now, rel=1e-5)
    expected = np.where(which[:, None] == 0, a, b)
    found = distiller.complete_batch((x, labels))[1].teacher.output
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(found), expected, rtol=1e-5, atol=1e-6
    )


def test_a_teacher_without_layers_is_not_tapped():
    hint = kd.Transfer(
        kd.losses.FeatureMatching(), teacher="stage1", student="stage1"
    )
    with pytest.raises(ValueError, match="'fixed' has an output and no layers"):
        kd.Distiller(Fixed(), functional_model(4, name="student"), hint)
    with pytest.raises(NotImplementedError, match="implement `predictions"):
        kd.Distiller(kd.teachers.Teacher(), functional_model(4, name="student"))


def test_a_teacher_without_gradients_of_its_own():
    class Plain(kd.teachers.Teacher):
        def __init__(self, model):
            self.model, self.variables = model, model.variables

        def predictions(self, batch, taps, state_mapping=None, training=True):
            with keras.StatelessScope(state_mapping=state_mapping):
                return self.at_output(self.model(batch.inputs), taps)

    teacher, student = pair()
    distiller = kd.Distiller(Plain(teacher), student)
    distiller.compile("sgd", cross_entropy())
    batch = data()
    distiller.fit(*batch, verbose=0)
    predicted = distiller.complete_batch(batch)[1].teacher.output
    assert not getattr(predicted, "requires_grad", False)

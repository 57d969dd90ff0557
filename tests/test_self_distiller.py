"""SelfDistiller: peers, branches, exits and past predictions, in `fit`."""

import keras
import numpy as np
import pytest
from support import KINDS
from support import MODELS
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy
from support import weights_of

import keras_kd as kd


def peers(seed=0, kind="functional"):
    keras.utils.set_random_seed(seed)
    return kd.students.peers(
        {
            "small": MODELS[kind](4, name="cnn_small"),
            "large": MODELS[kind](8, name="cnn_large"),
        }
    )


def branches(seed=0):
    keras.utils.set_random_seed(seed)
    trunk = keras.Sequential(
        [keras.Input((8, 8, 2)), keras.layers.Conv2D(4, 3, activation="relu")],
        name="trunk",
    )
    heads = {
        key: keras.Sequential(
            [
                keras.Input((6, 6, 4)),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ],
            name=f"branch_{key}",
        )
        for key in ("left", "right")
    }
    return kd.students.gated_branches(trunk, heads)


def exits(kind="functional", seed=0):
    keras.utils.set_random_seed(seed)
    tap = "backbone/stage1" if kind == "nested" else "stage1"
    head = keras.Sequential(
        [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    )
    return kd.students.Exits(MODELS[kind](4, name="model"), {tap: head})


def compiled(distiller, optimizer="sgd", **arguments):
    distiller.compile(
        optimizer, cross_entropy(), metrics=["accuracy"], **arguments
    )
    return distiller


def log_softmax(logits):
    logits = np.asarray(logits, "float64")
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def divergence(teacher, student, temperature=1.0):
    p, q = (
        log_softmax(teacher / temperature),
        log_softmax(student / temperature),
    )
    return temperature**2 * (np.exp(p) * (p - q)).sum(axis=-1).mean()


def entropy_with(labels, logits):
    return -log_softmax(logits)[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("kind", KINDS)
def test_mutual_learning_is_the_papers_sum(kind):
    student = peers(kind=kind)
    distiller = kd.SelfDistiller(
        student, kd.schemes.mutual_learning(student, weight=0.5)
    )
    compiled(distiller)
    x, y = data()
    answers = student.predict(x, verbose=0)
    small, large = answers["small"], answers["large"]
    logs = distiller.evaluate(x, y, 24, verbose=0, return_dict=True)
    expected = {
        "hard_loss": entropy_with(y, small) + entropy_with(y, large),
        "small_loss": entropy_with(y, small),
        "large_loss": entropy_with(y, large),
        "small_to_large_loss": 0.5 * divergence(small, large),
        "large_to_small_loss": 0.5 * divergence(large, small),
        "small_accuracy": (small.argmax(-1) == y).mean(),
        "large_accuracy": (large.argmax(-1) == y).mean(),
        "student_losses": 0.0,
    }
    expected["loss"] = sum(
        expected[key]
        for key in ("hard_loss", "small_to_large_loss", "large_to_small_loss")
    )
    assert logs.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(logs[key], value, rtol=1e-4, atol=1e-6)


def test_a_peer_learns_as_from_a_frozen_copy_of_the_others():
    """One step of both equals a step of each with the other as its teacher."""
    student = peers()
    before = {key: weights_of(m) for key, m in models_of(student).items()}
    x, y = data()
    distiller = kd.SelfDistiller(student, kd.schemes.mutual_learning(student))
    compiled(distiller).fit(x, y, 24, verbose=0)
    for learner, other in (("small", "large"), ("large", "small")):
        alone = models_of(peers())
        # Mutual learning shows the peers in training mode: with their
        # normalization's statistics of the batch.
        teacher = InTrainingMode(alone[other])
        reference = kd.Distiller(
            teacher,
            alone[learner],
            [kd.Transfer(kd.losses.SoftTargets(1.0))],
            hard_weight=1.0,
        )
        compiled(reference).fit(x, y, 24, verbose=0)
        moved = 0.0
        for a, b, c in zip(
            weights_of(models_of(student)[learner]),
            weights_of(alone[learner]),
            before[learner],
        ):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
            moved = max(moved, np.abs(a - c).max())
        assert moved > 1e-3


def models_of(student):
    return {key: student.get_layer(f"cnn_{key}") for key in ("small", "large")}


@keras.saving.register_keras_serializable(package="keras_kd_tests")
class InTrainingMode(keras.Model):
    def __init__(self, model):
        super().__init__(autocast=False)
        self.model = model
        self.built = True

    def call(self, inputs, training=None):
        return self.model(inputs, training=True)


# PyTorch and TensorFlow say so: nothing reaches the one that teaches.
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_the_teaching_side_gets_no_gradient():
    student = peers()
    transfer = kd.Transfer(
        kd.losses.SoftTargets(), teacher="[large]", student="[small]"
    )
    distiller = kd.SelfDistiller(student, [transfer])
    distiller.compile("sgd", loss=None)
    distiller.fit(data()[0], batch_size=8, verbose=0)
    same = {
        key: all(
            np.array_equal(numpy(a.value), numpy(b.value))
            for a, b in zip(
                model.trainable_variables,
                models_of(peers())[key].trainable_variables,
            )
        )
        for key, model in models_of(student).items()
    }
    assert same == {"small": False, "large": True}


class Counted(keras.layers.Layer):
    """Counts how often it runs, by a weight that the state holds."""

    def build(self, shape):
        self.count = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="count"
        )

    def call(self, inputs):
        self.count.assign_add(1.0)
        return inputs


def test_each_peer_runs_once_a_step():
    x, y = data()
    students = {}
    for key in ("a", "b"):
        model = functional_model(4, name=f"peer_{key}")
        students[key] = keras.Sequential(
            [keras.Input((8, 8, 2)), Counted(name=f"count_{key}"), model],
            name=f"counted_{key}",
        )
    student = kd.students.peers(students)
    counts = [students[key].layers[0].count for key in ("a", "b")]
    distiller = kd.SelfDistiller(student, kd.schemes.mutual_learning(student))
    compiled(distiller)
    before = [float(numpy(count.value)) for count in counts]
    distiller.fit(x, y, 8, epochs=2, verbose=0)
    after = [float(numpy(count.value)) for count in counts]
    # Keras itself traces the model once, to build the loss.
    for a, b in zip(before, after):
        assert b - a in (6.0, 7.0)


def test_three_unlike_peers_share_the_weight():
    keras.utils.set_random_seed(0)
    names = {"a": "functional", "b": "sequential", "c": "subclassed"}
    students = {
        key: MODELS[kind](4, name=f"peer_{key}") for key, kind in names.items()
    }
    student = kd.students.peers(students)
    transfers = kd.schemes.mutual_learning(student, temperature=2.0)
    assert len(transfers) == 6
    assert {float(transfer.weight) for transfer in transfers} == {0.5}
    distiller = compiled(kd.SelfDistiller(student, transfers), "adam")
    x, y = data()
    history = distiller.fit(x, y, validation_data=(x, y), verbose=0).history
    assert {"val_c_accuracy", "a_to_b_loss", "val_a_loss"} <= history.keys()


def test_a_peer_is_exported_alone(tmp_path):
    student = peers()
    distiller = kd.SelfDistiller(student, kd.schemes.mutual_learning(student))
    x, y = data()
    compiled(distiller, "adam").fit(x, y, verbose=0)
    small = models_of(student)["small"]
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0),
        distiller.predict(x, verbose=0)["small"],
        rtol=1e-5,
        atol=1e-6,
    )


def test_features_pass_between_peers():
    student = peers()
    transfer = kd.Transfer(
        kd.losses.FeatureMatching(),
        teacher="cnn_large/stage2",
        student="cnn_small/stage2",
        adapter=kd.layers.FeatureAdapter(),
    )
    distiller = compiled(kd.SelfDistiller(student, [transfer]), "adam")
    x, y = data(48)
    logs = distiller.fit(x, y, epochs=4, verbose=0).history
    assert logs["feature_matching_loss"][-1] < logs["feature_matching_loss"][0]


def test_native_ensemble_is_the_gated_sum():
    student = branches()
    x, y = data()
    answers = student.predict(x, verbose=0)
    trunk = student.get_layer("trunk").predict(x, verbose=0).mean(axis=(1, 2))
    kernel, bias = (numpy(w.value) for w in student.get_layer("gate").weights)
    # A fresh normalization, in inference mode, divides by sqrt(1 + epsilon).
    gate = np.maximum((trunk @ kernel + bias) / np.sqrt(1.001), 0.0)
    gate = np.exp(log_softmax(gate))
    expected = gate[:, :1] * answers["left"] + gate[:, 1:] * answers["right"]
    np.testing.assert_allclose(answers["ensemble"], expected, rtol=1e-4)
    distiller = kd.SelfDistiller(student, kd.schemes.native_ensemble(student))
    compiled(distiller)
    logs = distiller.evaluate(x, y, 24, verbose=0, return_dict=True)
    np.testing.assert_allclose(
        logs["ensemble_to_left_loss"],
        divergence(answers["ensemble"], answers["left"], 3.0),
        rtol=1e-4,
    )
    distiller.fit(x, y, verbose=0)
    plain = keras.Sequential(
        [student.get_layer("trunk"), student.get_layer("branch_left")]
    )
    np.testing.assert_allclose(
        plain.predict(x, verbose=0),
        distiller.predict(x, verbose=0)["left"],
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_exit_teaches_the_first(kind):
    student = exits(kind)
    tap = student.taps[0].text
    last = "backbone/stage2" if kind == "nested" else "stage2"
    transfers = kd.schemes.be_your_own_teacher(student, hint=last)
    distiller = compiled(kd.SelfDistiller(student, transfers, hard_weight=0.7))
    x, y = data()
    answers = student.predict(x, verbose=0)
    logs = distiller.evaluate(x, y, 24, verbose=0, return_dict=True)
    name = tap.replace("/", "_")
    np.testing.assert_allclose(
        logs[f"final_to_{name}_loss"],
        0.3 * divergence(answers["final"], answers[tap], 3.0),
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        logs["hard_loss"],
        0.7
        * (entropy_with(y, answers["final"]) + entropy_with(y, answers[tap])),
        rtol=1e-4,
    )
    assert logs[f"hint_to_{name}_loss"] > 0
    distiller.fit(x, y, verbose=0)
    np.testing.assert_allclose(
        student.model.predict(x, verbose=0),
        student.predict(x, verbose=0)["final"],
        rtol=1e-5,
        atol=1e-6,
    )


def past(samples=24, alpha=0.5, seed=0):
    keras.utils.set_random_seed(seed)
    loss = kd.losses.PastPredictions(samples, 3)
    return kd.SelfDistiller(
        functional_model(4, name="student"),
        [kd.Transfer(loss, weight=alpha)],
        hard_weight=1.0 - alpha,
    )


def test_past_predictions_are_the_last_epochs():
    """Each epoch's targets are what the steps of the one before answered."""
    distiller = compiled(past())
    x, y = data()
    index = np.arange(24)[::-1].copy()
    targets = {"labels": y, "sample_index": index}
    first = distiller.fit(x, targets, 24, shuffle=False, verbose=0).history
    # Nothing is known yet: both parts are the cross-entropy with the labels.
    np.testing.assert_allclose(
        first["hard_loss"], first["past_predictions_loss"], rtol=1e-5
    )
    bank = distiller.transfers[0].loss.bank
    rows = numpy(bank.rows.value)[index]
    np.testing.assert_allclose(rows.sum(axis=-1), 1.0, rtol=1e-5)
    kept = -np.log(rows[np.arange(24), y]).mean()
    np.testing.assert_allclose(2 * first["hard_loss"][0], kept, rtol=1e-4)
    # Another epoch at learning rate 0 keeps the model, and fills the bank
    # with its present answers: the term is then 0.
    distiller.optimizer.learning_rate.assign(0.0)
    distiller.fit(x, targets, 24, shuffle=False, verbose=0)
    third = distiller.fit(x, targets, 24, shuffle=False, verbose=0).history
    np.testing.assert_allclose(third["past_predictions_loss"], 0.0, atol=1e-6)


def test_past_predictions_are_saved_and_loaded(tmp_path):
    distiller = compiled(past(), "adam")
    x, y = data()
    targets = {"labels": y, "sample_index": np.arange(24)}
    distiller.fit(x, targets, 8, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    histories = [
        each.fit(x, targets, 8, 2, shuffle=False, verbose=0).history
        for each in (distiller, loaded)
    ]
    assert histories[0] == histories[1]


@pytest.mark.parametrize(
    "make, scheme",
    [
        (peers, kd.schemes.mutual_learning),
        (peers, kd.schemes.collaborative_learning),
        (branches, kd.schemes.native_ensemble),
        (exits, kd.schemes.be_your_own_teacher),
    ],
)
def test_save_load_and_train_on(make, scheme, tmp_path):
    student = make()
    distiller = compiled(kd.SelfDistiller(student, scheme(student)), "adam")
    x, y = data()
    distiller.fit(x, y, 8, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert isinstance(loaded, kd.SelfDistiller)
    histories = [
        each.fit(x, y, 8, 2, shuffle=False, verbose=0).history
        for each in (distiller, loaded)
    ]
    assert histories[0].keys() == histories[1].keys()
    for key, value in histories[0].items():
        np.testing.assert_allclose(value, histories[1][key], rtol=1e-5)


def test_samples_of_weight_0_are_absent():
    x, y = data()
    weight = np.ones(24, "float32")
    weight[12:] = 0.0
    logs = []
    for part in (slice(None), slice(12)):
        student = peers()
        transfers = kd.schemes.mutual_learning(student)
        distiller = compiled(kd.SelfDistiller(student, transfers))
        logs.append(
            distiller.evaluate(
                x[part],
                y[part],
                24,
                sample_weight=weight[part],
                verbose=0,
                return_dict=True,
            )
        )
    for key in ("small_to_large_loss", "large_to_small_loss"):
        np.testing.assert_allclose(logs[0][key], logs[1][key], rtol=1e-5)


def test_labels_and_weights_by_output():
    """Keras then makes a dict of the weights, too."""
    x, y = data()
    weight = np.linspace(0.0, 2.0, 24).astype("float32")
    logs = []
    for labels in (y, {"small": y, "large": y}):
        student = peers()
        transfers = kd.schemes.mutual_learning(student)
        distiller = compiled(kd.SelfDistiller(student, transfers))
        history = distiller.fit(
            x, labels, 24, sample_weight=weight, verbose=0
        ).history
        logs.append(history)
    assert logs[0].keys() == logs[1].keys()
    for key, value in logs[0].items():
        np.testing.assert_allclose(value, logs[1][key], rtol=1e-5)
    student = peers()
    transfers = kd.schemes.collaborative_learning(student)
    distiller = compiled(kd.SelfDistiller(student, transfers))
    with pytest.raises(ValueError, match="one set for all outputs"):
        distiller.fit(x, {"small": y, "large": y}, verbose=0)


def test_losses_and_weights_by_output():
    student = peers()
    distiller = kd.SelfDistiller(student, kd.schemes.mutual_learning(student))
    distiller.compile(
        "sgd",
        loss={"small": cross_entropy(), "large": cross_entropy()},
        loss_weights={"small": 0.25, "large": 2.0},
    )
    x, y = data()
    logs = distiller.evaluate(x, y, 24, verbose=0, return_dict=True)
    np.testing.assert_allclose(
        logs["hard_loss"],
        0.25 * logs["small_loss"] + 2.0 * logs["large_loss"],
        rtol=1e-5,
    )


def test_a_student_that_diverges_is_named():
    student = peers()
    distiller = kd.SelfDistiller(student, kd.schemes.mutual_learning(student))
    x, y = data()
    x[3] = np.nan
    with pytest.raises(ValueError, match="The student 'peers' predicted"):
        compiled(distiller).fit(x, y, verbose=0)


def test_errors():
    student = peers()
    transfers = kd.schemes.mutual_learning(student)
    distiller = kd.SelfDistiller(student, transfers)
    with pytest.raises(ValueError, match="is its own student"):
        distiller.set_teacher(functional_model(4, name="teacher"))
    with pytest.raises(ValueError, match="need one.*teacher_agreement"):
        distiller.compile(metrics=[kd.metrics.TeacherAgreement()])
    with pytest.raises(ValueError, match="Closest names there: .*stage1"):
        kd.SelfDistiller(
            functional_model(4, name="model"),
            [kd.Transfer(kd.losses.LogitMatching(), teacher="stage7")],
        )
    model = functional_model(4, name="model")
    with pytest.raises(ValueError, match="at least 2 Keras models"):
        kd.students.peers({"alone": model})
    with pytest.raises(ValueError, match="different names.*'model'"):
        kd.students.peers({"a": model, "b": model})
    with pytest.raises(ValueError, match="to Keras models"):
        kd.students.peers({"a": model, "b": "model"})
    for name in ("a/b", "a[b]", "hard"):
        with pytest.raises(ValueError, match="must map names of letters"):
            kd.students.peers({name: model, "b": model})
    with pytest.raises(ValueError, match="at a layer's output or input"):
        kd.students.Exits(model, {"[a]": keras.layers.Dense(3)})
    with pytest.raises(ValueError, match="`weight` must be a finite number"):
        kd.schemes.mutual_learning(
            student, weight=kd.schedules.Annealing(0.0, 1.0, steps=3)
        )
    with pytest.raises(ValueError, match="Received: 2 pairs"):
        kd.SelfDistiller(
            student, [kd.Transfer(kd.losses.PastPredictions(24, 3))]
        )
    loss = kd.losses.PastPredictions(24, 3)
    with pytest.raises(ValueError, match="Make a new loss for each"):
        kd.SelfDistiller(
            student,
            [
                kd.Transfer(loss, teacher=tap, student=tap, name=name)
                for name, tap in (("a", "[small]"), ("b", "[large]"))
            ],
        )
    unbuilt = [keras.Sequential([keras.layers.Dense(3)]) for _ in "ab"]
    with pytest.raises(ValueError, match="shape of the inputs is not known"):
        kd.students.peers(dict(zip("ab", unbuilt)))
    with pytest.raises(ValueError, match="no key 'ensemble'"):
        kd.students.gated_branches(
            model, {"a": functional_model(4, name="other"), "ensemble": model}
        )
    with pytest.raises(ValueError, match="no tap called 'final'"):
        kd.students.Exits(model, {"final": keras.layers.Dense(3)})
    with pytest.raises(ValueError, match="No layer 'stage9'"):
        kd.students.Exits(model, {"stage9": keras.layers.Dense(3)})
    with pytest.raises(ValueError, match="must be one of"):
        kd.losses.CollaborativeTargets("max")
    with pytest.raises(ValueError, match="two or more peers"):
        kd.SelfDistiller(model, [kd.Transfer(kd.losses.CollaborativeTargets())])
    with pytest.raises(ValueError, match="Set `num_classes`"):
        kd.SelfDistiller(model, [kd.Transfer(kd.losses.PastPredictions(10, 4))])


def test_each_output_is_measured_where_samples_have_an_index():
    x, y = data()
    peers = kd.students.peers(
        {name: functional_model(4, name=name) for name in ("a", "b")}
    )
    distiller = kd.SelfDistiller(peers, kd.schemes.mutual_learning(peers))
    distiller.compile("sgd", cross_entropy(), metrics=["accuracy"])
    targets = {"labels": y, "sample_index": np.arange(len(y))}
    logs = distiller.fit(x, targets, verbose=0).history
    assert {"a_accuracy", "b_accuracy"} <= logs.keys()


def test_weights_of_outputs_in_a_list():
    inputs = keras.Input((8, 8, 2))
    outputs = [
        keras.layers.Dense(3, name=name)(keras.layers.Flatten()(inputs))
        for name in ("a", "b")
    ]
    transfer = kd.Transfer(
        kd.losses.SoftTargets(), teacher="[0]", student="[1]"
    )
    distiller = kd.SelfDistiller(keras.Model(inputs, outputs), transfer)
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
    x, y = data()
    logs = [
        distiller.fit(
            x[:n], [y[:n], y[:n]], sample_weight=weights, shuffle=False
        ).history
        for n, weights in ((12, None), (24, np.repeat([1.0, 0.0], 12)))
    ]
    name = "soft_targets_loss"
    assert logs[0][name] == pytest.approx(logs[1][name], rel=1e-5)

"""A cache in the place of the teacher: the same training, in every respect."""

import keras
import numpy as np
import pytest
from support import BACKEND
from support import functional_model
from support import numpy

import keras_kd as kd

COUNT, BATCH = 24, 8
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(COUNT, 8, 8, 2)).astype("float32")
    return x, generator.integers(0, 3, COUNT)


@pytest.fixture(scope="module")
def teacher():
    keras.utils.set_random_seed(1)
    return functional_model(6, name="teacher")


@pytest.fixture(scope="module")
def path(teacher, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("cached")
    exact = kd.cache.Dense("float32")
    outputs = {"": exact, "stage2": exact, "head:input": kd.cache.Int8()}
    kd.cache.write(
        teacher, data[0], path, outputs=outputs, batch_size=BATCH, verbose=0
    )
    return path


@pytest.fixture(scope="module")
def cached(path):
    return kd.cache.open(path)


def student(**kwargs):
    keras.utils.set_random_seed(2)
    return functional_model(3, name="student", **kwargs)


def transfers():
    return [
        kd.Transfer(kd.losses.SoftTargets(2.0), weight=0.9),
        kd.Transfer(
            kd.losses.FeatureMatching(),
            teacher="stage2",
            student="stage2",
            adapter=kd.layers.FeatureAdapter(),
            weight=0.5,
        ),
    ]


def compiled(teacher, terms=None, **kwargs):
    keras.utils.set_random_seed(3)
    distiller = kd.Distiller(teacher, student(), terms or transfers())
    kwargs = {"loss": CROSSENTROPY, "metrics": ["accuracy"], **kwargs}
    distiller.compile(keras.optimizers.Adam(0.01), **kwargs)
    return distiller


def fitted(distiller, dataset, epochs=2, **kwargs):
    history = distiller.fit(
        dataset, epochs=epochs, shuffle=False, verbose=0, **kwargs
    )
    return history.history


def test_the_student_is_the_one_of_the_live_teacher(teacher, cached, data):
    joined = cached.join(*data, np.arange(COUNT), batch_size=BATCH, seed=0)
    metrics = dict(weighted_metrics=[kd.metrics.TeacherDivergence()])
    live, cached = compiled(teacher, **metrics), compiled(cached, **metrics)
    # It has no need of the cached that the batches bring.
    expected = fitted(live, joined)
    logs = fitted(cached, joined)
    assert logs.keys() == expected.keys()
    for key, values in logs.items():
        np.testing.assert_allclose(values, expected[key], rtol=1e-5)
    for ours, theirs in zip(
        cached.student.get_weights(), live.student.get_weights()
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


class Watched(kd.Distiller):
    """Keeps the numbers of the samples that it is trained on."""

    def train_step(self, *state_and_data):
        _, y, *_ = state_and_data[-1]
        self.seen.extend(numpy(y["sample_index"]).tolist())
        return super().train_step(*state_and_data)


@pytest.mark.parametrize("workers", [1, 2])
def test_each_epoch_has_each_sample_once(cached, data, workers):
    distiller = Watched(cached, student(), transfers())
    metrics = ["accuracy"]
    distiller.compile("adam", CROSSENTROPY, metrics=metrics, run_eagerly=True)
    joined = cached.join(*data, batch_size=2, seed=0, workers=workers)
    distiller.seen = []
    distiller.fit(joined, epochs=2, verbose=0)
    first, second = distiller.seen[:COUNT], distiller.seen[COUNT:]
    assert sorted(first) == sorted(second) == list(range(COUNT))
    assert first != second


@pytest.mark.parametrize("shuffle", [True, False])
def test_epochs_of_fewer_steps_go_on_with_the_rest(cached, data, shuffle):
    distiller = Watched(cached, student(), transfers())
    distiller.compile("adam", CROSSENTROPY, run_eagerly=True)
    joined = cached.join(*data, batch_size=2, seed=0)
    distiller.seen = []
    # Of 12 batches: 5, 5 and 2 more, and then all of them anew.
    arguments = dict(steps_per_epoch=5, epochs=6, shuffle=shuffle, verbose=0)
    with pytest.warns(UserWarning, match="ran out of data"):
        distiller.fit(joined, **arguments)
    first, second = distiller.seen[:COUNT], distiller.seen[COUNT:]
    assert sorted(first) == sorted(second) == list(range(COUNT))
    assert first != second


def test_evaluating_moves_neither_order_nor_view(cached, data):
    distiller = compiled(cached)
    x, y = data
    joined = cached.join(x, y, batch_size=BATCH, seed=0)
    first = distiller.predict(joined, verbose=0)
    order = joined.order.copy()
    distiller.evaluate(joined, verbose=0)
    np.testing.assert_array_equal(joined.order, order)
    np.testing.assert_array_equal(distiller.predict(joined, verbose=0), first)
    training = cached.join(x, y, batch_size=BATCH, seed=1)
    distiller.fit(training, epochs=3, validation_data=joined, verbose=0)
    assert joined.epoch == 0
    assert training.epoch == 2


def test_another_cache_s_predictions_are_refused(
    cached, teacher, data, tmp_path
):
    x, y = data
    exact = kd.cache.Dense("float32")
    outputs = {"": exact, "stage2": exact, "head:input": kd.cache.Int8()}
    keras.utils.set_random_seed(7)
    others = functional_model(6, name="teacher")
    wrong = [
        (others, x, outputs),
        (teacher, x, {**outputs, "": kd.cache.TopK(2)}),
    ]
    distiller = compiled(cached)
    weights = distiller.student.get_weights()
    for place, (asked, inputs, stored) in enumerate(wrong):
        path = tmp_path / str(place)
        kd.cache.write(asked, inputs, path, outputs=stored, verbose=0)
        joined = kd.cache.open(path).join(x, y, batch_size=BATCH)
        with pytest.raises(ValueError, match="another cache.*Received"):
            distiller.fit(joined, verbose=0)
        with pytest.raises(ValueError, match="another cache.*Received"):
            distiller.evaluate(joined, verbose=0)
        with pytest.raises(ValueError, match="bring its predictions along"):
            distiller.fit(x, y, verbose=0)
        with pytest.raises(ValueError, match="bring its predictions along"):
            distiller.train_on_batch(x, y)
        with pytest.raises(ValueError, match="another cache.*Received"):
            distiller.test_on_batch(*joined[0])
    for ours, before in zip(distiller.student.get_weights(), weights):
        np.testing.assert_array_equal(ours, before)
    # Of the same teacher, in the same form: such as one of other samples.
    kd.cache.write(teacher, x + 1, tmp_path / "c", outputs=outputs, verbose=0)
    same = kd.cache.open(tmp_path / "c").join(x + 1, y, batch_size=BATCH)
    assert "soft_targets_loss" in distiller.evaluate(
        same, verbose=0, return_dict=True
    )


def test_samples_weigh_differently_in_each_output(tmp_path):
    x = np.random.default_rng(0).normal(size=(COUNT, 4)).astype("float32")
    weight = np.linspace(0, 2, COUNT)
    y = {"a": np.arange(COUNT) % 3, "b": np.arange(COUNT) % 3}
    sample_weight = {"a": weight, "b": weight[::-1]}

    def model(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((4,))
        heads = {name: keras.layers.Dense(3, name=name) for name in "ab"}
        return keras.Model(
            inputs, {name: head(inputs) for name, head in heads.items()}
        )

    teacher = model(0)
    exact = kd.cache.Dense("float32")
    kd.cache.write(teacher, x, tmp_path, outputs={"[a]": exact}, verbose=0)
    cached = kd.cache.open(tmp_path)
    joined = cached.join(x, y, sample_weight, batch_size=BATCH)

    def term():
        soft_targets = kd.losses.SoftTargets(2.0)
        return kd.Transfer(soft_targets, teacher="[a]", student="[a]")

    def losses(asked):
        distiller = kd.Distiller(asked, model(1), [term()])
        loss = {"a": CROSSENTROPY, "b": CROSSENTROPY}
        distiller.compile(keras.optimizers.SGD(0.1), loss)
        return fitted(distiller, joined)

    expected, logs = losses(teacher), losses(cached)
    for key, values in logs.items():
        np.testing.assert_allclose(values, expected[key], rtol=1e-5)
    distiller = kd.Distiller(cached, model(1), [term()])
    distiller.compile(loss={"a": CROSSENTROPY, "b": CROSSENTROPY})
    logs = distiller.evaluate(joined, verbose=0, return_dict=True)
    for name, logits in model(1).predict(x, verbose=0).items():
        log_probs = logits - np.logaddexp.reduce(logits, axis=1)[:, None]
        each = -log_probs[np.arange(COUNT), y[name]]
        mean = np.mean(sample_weight[name] * each)
        np.testing.assert_allclose(logs[f"{name}_loss"], mean, rtol=1e-5)


@pytest.mark.parametrize("classes", [10, 300])  # uint8 and uint16
def test_a_data_loader_teaches_on_any_backend(tmp_path, classes):
    torch = pytest.importorskip("torch")

    def model(seed):
        keras.utils.set_random_seed(seed)
        return keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(classes)]
        )

    x = np.random.default_rng(0).normal(size=(COUNT, 4)).astype("float32")
    y, stored = np.arange(COUNT), kd.cache.TopK(4)
    kd.cache.write(model(0), x, tmp_path, outputs=stored, verbose=0)
    cached = kd.cache.open(tmp_path)
    samples = [
        (x[i], {"labels": y[i] % classes, "sample_index": i})
        for i in range(COUNT)
    ]
    loader = torch.utils.data.DataLoader(samples, batch_size=BATCH)

    def trained(joined):
        distiller = kd.Distiller(cached, model(1))
        distiller.compile(keras.optimizers.SGD(0.1), CROSSENTROPY)
        fitted(distiller, joined)
        assert "soft_targets_loss" in distiller.evaluate(
            joined, verbose=0, return_dict=True
        )
        return distiller.student.get_weights()

    arrays = cached.join(x, y % classes, batch_size=BATCH)
    for ours, theirs in zip(trained(cached.join(loader)), trained(arrays)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_there_is_no_teacher_in_memory(cached):
    distiller = kd.Distiller(cached, student(), transfers())
    parts = [distiller.student, *distiller.transfers]
    known = {id(v) for part in parts for v in part.variables}
    rest = [v for v in distiller.variables if id(v) not in known]
    assert sum(int(np.prod(v.shape)) for v in rest) < 20
    assert distiller.teacher is cached


def test_temperature_and_weight_still_move(cached, data):
    distiller = compiled(cached)
    annealing = [
        kd.callbacks.TemperatureAnnealing(8.0, 1.0, epochs=2),
        kd.callbacks.WeightAnnealing(
            0.9, 0.1, epochs=2, transfer="soft_targets"
        ),
    ]
    joined = cached.join(*data, batch_size=BATCH)
    logs = fitted(distiller, joined, 3, callbacks=annealing)
    assert logs["soft_targets_temperature"][0] == 8.0
    assert logs["soft_targets_temperature"][-1] == 1.0
    assert logs["soft_targets_weight"][-1] == pytest.approx(0.1)


def test_top_k_at_another_temperature(teacher, data, tmp_path):
    kd.cache.write(
        teacher, data[0], tmp_path, outputs=kd.cache.TopK(2, 2.0), verbose=0
    )
    cached = kd.cache.open(tmp_path)
    terms = [kd.Transfer(kd.losses.SoftTargets(2.0), weight=1.0)]
    distiller = compiled(cached, terms, loss=None, metrics=None)
    joined = cached.join(data[0], batch_size=COUNT)
    live = compiled(teacher, terms, loss=None, metrics=None)
    for temperature in (2.0, 6.0):
        losses = []
        for each in (distiller, live):
            each.transfers[0].loss.temperature = temperature
            losses.append(each.evaluate(joined, verbose=0, return_dict=True))
        # Of three classes two are kept: nothing is lost but digits.
        np.testing.assert_allclose(
            losses[0]["soft_targets_loss"],
            losses[1]["soft_targets_loss"],
            rtol=5e-3,
        )


def test_evaluate_without_predictions_is_the_student_s_own(cached, data):
    metrics = ["accuracy", kd.metrics.TeacherAgreement()]
    distiller = compiled(cached, metrics=metrics)
    history = fitted(
        distiller,
        cached.join(*data, batch_size=BATCH),
        epochs=1,
        validation_data=data,
    )
    assert "teacher_agreement" in history
    own = {"accuracy", "hard_loss", "student_losses"}
    assert {key for key in history if key.startswith("val_")} == {
        f"val_{key}" for key in own
    }
    alone = distiller.student
    alone.compile(loss=CROSSENTROPY, metrics=["accuracy"])
    expected = alone.evaluate(*data, verbose=0, return_dict=True)
    found = distiller.evaluate(*data, verbose=0, return_dict=True)
    assert found.keys() == own
    assert found["accuracy"] == pytest.approx(expected["accuracy"])
    assert found["hard_loss"] == pytest.approx(0.1 * expected["loss"], rel=1e-5)
    assert len(distiller.evaluate(*data, verbose=0)) == len(own)
    joined = cached.join(*data, batch_size=BATCH)
    found = distiller.evaluate(joined, verbose=0, return_dict=True)
    assert {"soft_targets_loss", "teacher_agreement"} < found.keys()


def test_fit_without_predictions_is_refused(cached, data):
    with pytest.raises(ValueError, match="can't predict.*cache.join"):
        compiled(cached).fit(*data, verbose=0)


def test_a_tap_that_was_not_stored(cached):
    terms = [
        kd.Transfer(
            kd.losses.AttentionTransfer(), teacher="stage1", student="stage1"
        )
    ]
    with pytest.raises(ValueError, match="nothing of tap 'stage1'.*'stage2'"):
        kd.Distiller(cached, student(), terms)


def test_metrics_of_an_output_that_was_not_stored(teacher, data, tmp_path):
    outputs = {"stage2": kd.cache.Dense()}
    kd.cache.write(teacher, data[0], tmp_path, outputs=outputs, verbose=0)
    cached = kd.cache.open(tmp_path)
    with pytest.raises(ValueError, match="output.*agreement.*'stage2'"):
        compiled(
            cached, transfers()[1:], metrics=[kd.metrics.TeacherAgreement()]
        )


def test_shapes_are_checked_when_the_distiller_is_made(cached):
    pupil = functional_model(3, name="pupil", classes=4)
    with pytest.raises(ValueError, match="class"):
        kd.Distiller(cached, pupil)


def test_an_input_of_a_layer_as_int8(cached, data):
    terms = [
        kd.Transfer(
            kd.losses.FeatureMatching(),
            teacher="head:input",
            student="head:input",
            adapter=kd.layers.FeatureAdapter(),
        )
    ]
    logs = fitted(compiled(cached, terms), cached.join(*data, batch_size=BATCH))
    assert np.isfinite(logs["feature_matching_loss"]).all()


def test_a_sample_of_weight_0_is_absent(cached, data):
    x, y = data
    weights = (np.arange(COUNT) < 10).astype("float32")
    few = compiled(cached)
    fitted(few, cached.join(x[:10], y[:10], batch_size=10), 1)
    losses = [
        few.evaluate(dataset, verbose=0, return_dict=True)
        for dataset in (
            cached.join(x, y, weights, batch_size=COUNT),
            cached.join(x[:10], y[:10], batch_size=10),
        )
    ]
    for name in ("soft_targets_loss", "feature_matching_loss"):
        assert losses[0][name] == pytest.approx(losses[1][name], rel=1e-5)


def test_training_goes_on_from_the_live_teacher_s_state(
    teacher, cached, data, tmp_path
):
    live = compiled(teacher)
    live.fit(*data, batch_size=BATCH, verbose=0)
    live.save_weights(tmp_path / "live.weights.h5")
    distiller = compiled(cached)
    joined = cached.join(*data, batch_size=BATCH)
    fitted(distiller, joined, 1)
    distiller.load_weights(tmp_path / "live.weights.h5")
    for ours, theirs in zip(
        distiller.student.get_weights(), live.student.get_weights()
    ):
        np.testing.assert_array_equal(ours, theirs)
    distiller.save(tmp_path / "cached.keras")
    loaded = keras.saving.load_model(tmp_path / "cached.keras")
    loaded.set_teacher(cached)
    fitted(loaded, joined, 1)
    with pytest.raises(ValueError, match="not the one that this training"):
        keras.saving.load_model(tmp_path / "cached.keras").set_teacher(
            functional_model(6, name="another")
        )


def test_predictions_of_another_teacher_are_refused(data, tmp_path, cached):
    other = functional_model(6, name="teacher")
    kd.cache.write(other, data[0], tmp_path, verbose=0)
    with pytest.raises(ValueError, match="holds another teacher's predictions"):
        kd.cache.open(cached.name, teacher=other)
    terms = [kd.Transfer(kd.losses.SoftTargets(2.0))]
    first = compiled(cached, terms)
    first.save_weights(tmp_path / "first.weights.h5")
    second = compiled(kd.cache.open(tmp_path), terms)
    with pytest.raises(ValueError, match="not the one that this training"):
        second.load_weights(tmp_path / "first.weights.h5")


def test_a_resumed_run_goes_on_in_its_order(cached, data, tmp_path):
    def run(epochs, backup):
        joined = cached.join(*data, batch_size=BATCH, seed=0)
        distiller = compiled(cached)
        backup = keras.callbacks.BackupAndRestore(
            backup, delete_checkpoint=False
        )
        fitted(distiller, joined, epochs, callbacks=[backup])
        return distiller.student.get_weights()

    whole = run(4, tmp_path / "whole")
    run(2, tmp_path / "broken")
    for ours, theirs in zip(run(4, tmp_path / "broken"), whole):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_student_in_half_precision(cached, data, policy):
    if BACKEND == "torch" and policy == "mixed_float16":
        pytest.skip("PyTorch has no float16 convolution on the CPU")
    keras.config.set_dtype_policy(policy)
    distiller = compiled(cached)
    logs = fitted(distiller, cached.join(*data, batch_size=BATCH))
    assert np.isfinite(logs["loss"]).all()


# --- teachers of other kinds ------------------------------------------------


def check_cached(teacher, x, tmp_path, labels=None, **kwargs):
    dataset = x
    if labels is not None:
        y = {"labels": labels, "sample_index": np.arange(len(x))}
        dataset = [(x, y)]
    exact = kd.cache.Dense("float32")
    kd.cache.write(teacher, dataset, tmp_path, outputs=exact, verbose=0)
    arguments = {} if labels is None else {"labels": labels}
    expected = numpy(teacher(x, training=False, **arguments))
    found = kd.cache.open(tmp_path).predictions_of(np.arange(len(x)))["output"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_an_ensemble(teacher, data, tmp_path):
    other = functional_model(4, name="other")
    ensemble = kd.teachers.Ensemble([teacher, other])
    check_cached(ensemble, data[0], tmp_path)


def test_an_ensemble_that_gets_the_labels(teacher, data, tmp_path):
    members = [teacher, functional_model(4, name="other")]
    ensemble = kd.teachers.Ensemble(members, weights="confidence")
    check_cached(ensemble, data[0], tmp_path, labels=data[1])


def batches(x, labels=None, stop=COUNT):
    for start in range(0, stop, BATCH):
        index = np.arange(start, start + BATCH)
        given = {} if labels is None else {"labels": labels[index]}
        yield x[index], {**given, "sample_index": index}


def views(*data):
    return kd.cache.AugmentedViews(
        *data, augment=lambda element, _: element, count=2
    )


def test_an_ensemble_needs_no_labels(teacher, data, tmp_path):
    ensemble = kd.teachers.Ensemble(
        [teacher, functional_model(4, name="other")]
    )
    for name, dataset in (
        ("batches", batches(data[0])),
        ("views", views(data[0])),
    ):
        path = tmp_path / name
        kd.cache.write(ensemble, dataset, path, verbose=0)
        found = kd.cache.open(path).predictions_of(np.arange(COUNT), 0)[
            "output"
        ]
        np.testing.assert_allclose(found, numpy(ensemble(data[0])), atol=2e-3)


def by_confidence(teacher):
    members = [teacher, functional_model(4, name="other")]
    return kd.teachers.Ensemble(members, weights="confidence")


@pytest.mark.parametrize("outputs", [None, kd.cache.Int8()])
def test_labels_that_an_ensemble_needs(teacher, data, outputs, tmp_path):
    ensemble = by_confidence(teacher)
    x = data[0]
    for dataset in (x, batches(x), iter([*batches(x)]), views(x)):
        with pytest.raises(
            ValueError, match="arrays bring none.*`cache.AugmentedViews"
        ):
            kd.cache.write(
                ensemble, dataset, tmp_path, outputs=outputs, verbose=0
            )
        assert not any(tmp_path.iterdir())
    exact = kd.cache.Dense("float32")
    kd.cache.write(ensemble, views(*data), tmp_path, outputs=exact, verbose=0)
    found = kd.cache.open(tmp_path).predictions_of(np.arange(COUNT), 1)[
        "output"
    ]
    expected = numpy(ensemble(x, labels=data[1]))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_labels_that_later_batches_lack(teacher, data, tmp_path):
    dataset = [*batches(*data, stop=BATCH), *[*batches(data[0])][1:]]
    with pytest.raises(ValueError, match="arrays bring none"):
        kd.cache.write(by_confidence(teacher), dataset, tmp_path, verbose=0)
    assert not (tmp_path / "manifest.json").exists()


def test_an_ensemble_of_other_settings_is_another_teacher(
    teacher, data, tmp_path
):
    members = [teacher, functional_model(4, name="other")]

    def weighted(*weights):
        return kd.teachers.Ensemble(members, weights=weights)

    def broken_off():
        yield from batches(data[0], stop=2 * BATCH)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kd.cache.write(weighted(0.9, 0.1), broken_off(), tmp_path, verbose=0)
    with pytest.raises(ValueError, match="teacher differs"):
        kd.cache.write(weighted(0.1, 0.9), data[0], tmp_path, verbose=0)
    kd.cache.write(weighted(0.9, 0.1), data[0], tmp_path, verbose=0)
    kd.cache.open(tmp_path, teacher=weighted(0.9, 0.1))
    with pytest.raises(ValueError, match="holds another teacher's predictions"):
        kd.cache.open(tmp_path, teacher=weighted(0.1, 0.9))


def test_a_python_function(data, tmp_path):
    def oracle(x):
        return x.reshape(len(x), -1)[:, :3]

    function = kd.teachers.FunctionTeacher(oracle, (8, 8, 2), 3, version="1")
    check_cached(function, data[0], tmp_path)


def test_a_subclassed_teacher_that_tells_no_input_shape(data, tmp_path):
    class Teacher(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(3)

        def call(self, inputs):
            return self.head(keras.ops.mean(inputs["x"], axis=(1, 2)))

    teacher = Teacher()
    x = {"x": data[0]}
    expected = numpy(teacher(x))
    kd.cache.write(teacher, x, tmp_path, verbose=0)
    found = kd.cache.open(tmp_path).predictions_of([5, 2])["output"]
    np.testing.assert_allclose(found, expected[[5, 2]], rtol=2e-3, atol=1e-4)


def test_the_teacher_comes_back_as_it_was(teacher, data, tmp_path):
    before = teacher.get_weights()
    flags = [layer.trainable for layer in teacher.layers]
    kd.cache.write(teacher, data[0], tmp_path, verbose=0)
    for ours, theirs in zip(teacher.get_weights(), before):
        np.testing.assert_array_equal(ours, theirs)
    assert [layer.trainable for layer in teacher.layers] == flags
    assert "call" not in vars(teacher.get_layer("stage2"))


def test_names_in_any_alphabet_and_of_any_length(data, tmp_path):
    names = ["long" * 3000]
    if BACKEND != "tensorflow":  # Its names are in ASCII.
        names += ["層", "слой"]
    layers = [keras.layers.Dense(2, name=name) for name in names]
    teacher = keras.Sequential([keras.Input((4,)), *layers])
    outputs = {name: kd.cache.Dense("float32") for name in names}
    x = np.random.default_rng(0).normal(size=(COUNT, 4)).astype("float32")
    kd.cache.write(teacher, x, tmp_path, outputs=outputs, verbose=0)
    found = kd.cache.open(tmp_path, verify="full").predictions_of([3])
    expected = teacher.predict_on_batch(x[[3]])
    np.testing.assert_allclose(found[names[-1]], expected, rtol=1e-5)


def test_training_does_not_go_on_with_another_teachers_cache(tmp_path):
    x, y = np.ones((COUNT, 4), "float32"), np.zeros(COUNT)

    def dense(factor):
        head = keras.layers.Dense(3, name="head")
        model = keras.Sequential([keras.Input((4,)), head], name="dense")
        head.set_weights([factor * np.eye(4, 3), np.zeros(3)])
        return model

    def distiller(teacher):
        made = kd.Distiller(teacher, dense(0.0))
        made.compile("sgd", CROSSENTROPY)
        return made

    for name, factor in {"first": 1.0, "second": 2.0}.items():
        kd.cache.write(dense(factor), x, tmp_path / name, verbose=0)
    first = kd.cache.open(tmp_path / "first")
    second = kd.cache.open(tmp_path / "second")
    trained = distiller(first)
    trained.fit(first.join(x, y), verbose=0)
    trained.save_weights(tmp_path / "state.weights.h5")
    trained.save(tmp_path / "trained.keras")

    distiller(first).load_weights(tmp_path / "state.weights.h5")
    distiller(dense(1.0)).load_weights(tmp_path / "state.weights.h5")
    with pytest.raises(ValueError, match="fingerprint.*cache"):
        distiller(second).load_weights(tmp_path / "state.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "trained.keras")
    with pytest.raises(ValueError, match="fingerprint.*cache"):
        loaded.set_teacher(second)
    loaded.set_teacher(first)

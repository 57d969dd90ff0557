"""What a loss needs beyond the views, and what it keeps, on its way there."""

import keras
import numpy as np
import pytest
from keras import ops
from support import BACKEND
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy
from support import weights_of
from support import with_mask

import keras_kd as kd
from keras_kd.losses import DistillationLoss


class Ledger(keras.layers.Layer):
    """One number for each sample of the data."""

    def __init__(self, samples):
        super().__init__()
        self.seen = self.add_weight(
            shape=(samples,), initializer="zeros", trainable=False
        )
        self.built = True


@keras.saving.register_keras_serializable(package="keras_kd_tests")
class Counted(DistillationLoss):
    """Counts how often each sample was trained on; its value is the index."""

    per_sample = True

    def __init__(self, samples=24, **kwargs):
        super().__init__(**kwargs)
        self.ledger = Ledger(samples)

    def call(self, teacher, student, *, sample_index, training, labels):
        if training:
            place = ops.one_hot(sample_index, self.ledger.seen.shape[0])
            self.ledger.seen.assign_add(ops.sum(place, axis=0))
        value = ops.cast(sample_index, "float32") + 100.0 * ops.cast(
            labels, "float32"
        )
        return value + 0.0 * ops.sum(student, axis=-1)


def distiller():
    return kd.Distiller(
        functional_model(8, name="teacher"),
        functional_model(4, name="student"),
        [kd.Transfer(Counted())],
        hard_weight=0.5,
    )


def indexed(x, y):
    return x, {"labels": y, "sample_index": np.arange(len(x))}


@pytest.mark.parametrize("eagerly", [False, True])
def test_the_index_reaches_the_loss_and_the_labels_the_compiled_loss(eagerly):
    model = distiller()
    model.compile(
        keras.optimizers.SGD(0.0),
        cross_entropy(),
        metrics=["accuracy", kd.metrics.TeacherAgreement()],
        run_eagerly=eagerly,
    )
    x, y = data()
    logs = model.fit(
        *indexed(x, y), batch_size=8, epochs=2, shuffle=True, verbose=0
    ).history
    expected = np.mean(np.arange(24) + 100.0 * y)
    np.testing.assert_allclose(logs["counted_loss"], expected, rtol=1e-5)
    ledger = model.transfers[0].loss.ledger
    np.testing.assert_array_equal(numpy(ledger.seen.value), np.full(24, 2.0))
    # `evaluate` keeps nothing, and takes the same form of the data.
    logs = model.evaluate(*indexed(x, y), verbose=0, return_dict=True)
    assert logs["counted_loss"] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(numpy(ledger.seen.value), np.full(24, 2.0))
    hard = model.student.evaluate
    model.student.compile(loss=cross_entropy(), metrics=["accuracy"])
    loss, accuracy = hard(x, y, verbose=0)
    assert logs["hard_loss"] == pytest.approx(0.5 * loss, rel=1e-5)
    assert logs["accuracy"] == pytest.approx(accuracy)


def test_weights_come_with_the_index():
    model = distiller()
    model.compile(keras.optimizers.SGD(0.0), cross_entropy())
    x, y = data()
    weights = np.resize([1.0, 0.0, 2.0], 24).astype("float32")
    logs = model.fit(
        *indexed(x, y), sample_weight=weights, batch_size=24, verbose=0
    ).history
    expected = np.average(np.arange(24) + 100.0 * y, weights=weights)
    np.testing.assert_allclose(logs["counted_loss"], expected, rtol=1e-5)


def test_what_a_loss_keeps_is_saved(tmp_path):
    model = distiller()
    model.compile("sgd", cross_entropy())
    model.fit(*indexed(*data()), verbose=0)
    model.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    ledger = loaded.transfers[0].loss.ledger
    np.testing.assert_array_equal(numpy(ledger.seen.value), np.ones(24))


def test_without_an_index_the_error_says_how_to_give_it():
    model = distiller()
    model.compile("sgd", cross_entropy())
    with pytest.raises(ValueError, match="needs `sample_index`.*Received"):
        model.fit(*data(), verbose=0)


class MeanOfPresent(DistillationLoss):
    per_sample = True

    def call(self, teacher, student, *, mask):
        mask = ops.cast(mask, "float32")
        error = ops.mean(ops.square(teacher - student), axis=-1)
        return ops.sum(error * mask, axis=1) / ops.sum(mask, axis=1)


def test_a_mask_reaches_the_loss():
    random = np.random.default_rng(0)
    teacher, student = random.normal(size=(2, 3, 4, 5)).astype("float32")
    error = np.mean((teacher - student) ** 2, axis=-1)
    loss = MeanOfPresent()
    assert float(numpy(loss(teacher, student))) == pytest.approx(error.mean())
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]], "bool")
    masked = with_mask(student, mask)
    expected = np.mean([error[i, mask[i]].mean() for i in range(3)])
    found = float(numpy(loss(teacher, masked)))
    assert found == pytest.approx(expected)


class OfChannelsFirst(MeanOfPresent):
    axis = 1

    def call(self, teacher, student):
        return ops.mean(ops.square(teacher - student), axis=(1, 2))


def test_masked_positions_are_emptied_along_their_own_axis():
    random = np.random.default_rng(0)
    # As many channels as positions: the axes differ by name alone.
    teacher, student = random.normal(size=(2, 1, 3, 3)).astype("float32")
    masked = with_mask(student, np.array([[True, True, False]]))
    found = float(numpy(OfChannelsFirst()(teacher, masked)))
    error = (teacher - student)[:, :, :2] ** 2
    assert found == pytest.approx(error.sum() / 9.0)


class Exchange(keras.layers.Layer):
    """Each teacher's shape from the sum of all of the student's means."""

    joint = True
    target_shapes = None

    def build(self, input_shapes):
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.built = True

    def call(self, views):
        means = [ops.mean(view, axis=(1, 2, 3)) for view in views]
        total = self.scale * sum(means)
        return [
            ops.ones((1, *shape)) * total[:, None, None, None]
            for shape in self.target_shapes
        ]

    def compute_output_shape(self, input_shapes):
        return [
            (shape[0], *target)
            for shape, target in zip(input_shapes, self.target_shapes)
        ]


def test_a_joint_adapter_takes_the_views_of_all_taps():
    adapter = Exchange()
    model = kd.Distiller(
        functional_model(8, name="teacher"),
        functional_model(4, name="student"),
        [
            kd.Transfer(
                kd.losses.FeatureMatching(),
                teacher=["stage1", "stage2"],
                student=["stage1", "stage2"],
                adapter=adapter,
            )
        ],
    )
    assert adapter.target_shapes == [(4, 4, 8), (2, 2, 16)]
    assert model.transfers[0].adapters == [adapter]
    model.compile("sgd", cross_entropy())
    model.fit(*data(), verbose=0)
    assert weights_of(adapter)[0] != 1.0


@pytest.mark.skipif(BACKEND == "torch", reason="nothing is compiled")
def test_the_index_reaches_a_compiled_step_of_several():
    model = distiller()
    model.compile("sgd", cross_entropy(), steps_per_execution=3)
    model.fit(*indexed(*data()), batch_size=8, verbose=0)
    ledger = model.transfers[0].loss.ledger
    np.testing.assert_array_equal(numpy(ledger.seen.value), np.ones(24))


@pytest.mark.parametrize(
    "adapter",
    [
        kd.layers.FeatureAdapter(),
        kd.layers.MaskedGeneration(),
        kd.layers.VariationalRegressor(),
    ],
    ids=["feature", "generation", "variational"],
)
def test_a_frozen_adapter_stays_frozen_when_it_is_built(adapter):
    adapter.trainable = False
    transfer = kd.Transfer(kd.losses.FeatureMatching(), adapter=adapter)
    transfer.adapters[0].target_shape = (4, 6)
    adapter.build((None, 4, 3))
    assert len(adapter.weights) > 0
    assert adapter.trainable_variables == []


def test_one_trained_adapter_is_not_copied():
    adapter = keras.layers.Dense(4)
    adapter.build((None, 3))
    taps = ["stage1", "stage2"]
    transfer = kd.Transfer(
        kd.losses.FeatureMatching(),
        teacher=taps,
        student=taps,
        adapter=adapter,
    )
    with pytest.raises(ValueError, match="built.*one adapter for each"):
        transfer.match([(None, 4), (None, 4)], [(None, 3), (None, 3)])


def test_a_teacher_adapter_may_have_a_target_of_its_own():
    transfer = kd.Transfer(
        kd.losses.FeatureMatching(),
        teacher_adapter=keras.layers.Reshape((4, 3)),
        adapter=kd.layers.FeatureAdapter(),
    )
    transfer.match([(None, 2, 6)], [(None, 4, 5)])
    assert transfer.adapters[0].target_shape == (4, 3)


class Cheat(keras.Model):
    """A teacher that reads the answers off the labels, where it has any."""

    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(3, kernel_initializer="zeros")
        self.flatten = keras.layers.Flatten()

    def call(self, inputs, *, labels=None):
        guess = self.head(self.flatten(inputs))
        return guess if labels is None else guess + ops.one_hot(labels, 3)


def test_a_teacher_that_asks_for_labels_sees_them():
    teacher = Cheat()
    x, y = data()
    teacher(x)
    told = kd.Transfer(kd.losses.LogitMatching(), name="told")
    distiller = kd.Distiller(teacher, functional_model(4, name="s"), [told])
    logits = numpy(distiller.student(x))
    with_labels = np.mean(np.square(logits - np.eye(3)[y]))
    without = np.mean(np.square(logits))

    def value(*batch, loss=None):
        distiller.compile("sgd", loss)
        return distiller.evaluate(*batch, return_dict=True, verbose=0)

    near = {"rel": 1e-4}
    for batch in [(x, y), indexed(x, y)]:
        results = value(*batch, loss=cross_entropy())
        assert results["told_loss"] == pytest.approx(with_labels, **near)
    assert value(x)["told_loss"] == pytest.approx(without, **near)
    distiller.compile("sgd", cross_entropy())
    distiller.fit(x, y, verbose=0)

"""What two distillers, or teacher and student, have in common."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from support import numpy

import keras_kd as kd
from keras_kd import losses

X = np.random.default_rng(0).normal(size=(16, 3, 4)).astype("float32")
INDEX = np.arange(16)


def model(name=None, shared=()):
    inputs = keras.Input((3, 4))
    hidden = layers.Flatten(name="flat")(inputs)
    for layer in shared:
        hidden = layer(hidden)
    return keras.Model(inputs, layers.Dense(3)(hidden), name=name)


def distiller(transfers, student=None):
    made = kd.Distiller(model("teacher"), student or model(), transfers)
    made.compile("sgd")
    return made


def told(made, *data):
    """What is said of another distiller when this one is trained."""
    data = data or (X,)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made.fit(*data, verbose=0)
    texts = [str(each.message) for each in caught]
    return [text for text in texts if "in another Distiller" in text]


def scheduled():
    return kd.schedules.Annealing(4.0, 1.0, steps=5)


def of_adapter(adapter):
    return kd.Transfer(losses.FeatureMatching(), adapter=adapter)


def of_loss(loss):
    return kd.Transfer(loss)


def of_rule(rule):
    return kd.Transfer(losses.SoftTargets(), rules=[rule])


PARTS = {
    "adapter": (of_adapter, kd.layers.FeatureAdapter, "adapter"),
    "schedule": (
        of_loss,
        lambda: losses.SoftTargets(scheduled()),
        "temperature of SoftTargets",
    ),
    "rule": (of_rule, kd.rules.DropUnusual, "rule DropUnusual"),
    "seed": (of_rule, kd.rules.DropAtRandom, "rule DropAtRandom"),
}


@pytest.mark.parametrize("kind", PARTS)
def test_the_later_of_two_distillers_of_one_part_is_told(kind):
    transfer, make, name = PARTS[kind]
    part = make()
    first, second = (distiller(transfer(part)) for _ in range(2))
    assert not told(first)
    assert not told(first)
    found = told(second)
    assert any(f"The {name}" in text for text in found)
    assert all("1 train" not in text and "2 training" in text for text in found)
    assert not told(second)  # It was told.


def test_a_teacher_that_has_followed_another_student():
    average = kd.teachers.MovingAverage(model())
    makers = [
        kd.Distiller(average, model(), losses.SoftTargets()) for _ in range(2)
    ]
    for made, times in zip(makers, (0, 1)):
        made.compile("sgd")
        found = told(made)
        assert ["The teacher 'moving" in text for text in found] == [
            True
        ] * times


def test_parts_that_do_not_change_may_be_shared():
    shared = losses.SoftTargets(2.0)
    transfer = kd.Transfer(shared, rules=[kd.rules.DropUnsure(0.1)])
    for _ in range(2):
        assert not told(distiller(transfer))


def test_the_memory_of_another_student_is_refused():
    loss = losses.PastPredictions(len(X), num_classes=3)
    labels = {"labels": INDEX % 3, "sample_index": INDEX}
    student = model()

    def made(student):
        made = kd.SelfDistiller(student, kd.Transfer(loss))
        made.compile("sgd")
        return made

    late = made(model())
    made(student).fit(X, labels, verbose=0)
    # The same student goes on with its own predictions.
    with pytest.warns(UserWarning, match="memory of PastPredictions"):
        made(student)
    for refused in (lambda: made(model()), lambda: late.fit(X, labels)):
        with pytest.raises(ValueError, match="predictions of another student"):
            refused()


@pytest.mark.parametrize("shared", ["dense", "statistics", "adapter"])
def test_trained_layers_of_the_teacher_are_refused(shared):
    layer = layers.Dense(12, name="shared")
    if shared == "statistics":
        layer = layers.BatchNormalization(
            scale=False, center=False, name="shared"
        )
    teacher = model("teacher", [layer])
    of_teacher = [layer] if shared != "adapter" else []
    student = model("student", of_teacher)

    def make():
        transfers = [kd.Transfer(losses.SoftTargets())]
        if shared == "adapter":
            arguments = dict(teacher="shared", student="flat", adapter=layer)
            hint = kd.Transfer(losses.FeatureMatching(), **arguments)
            transfers.append(hint)
        return kd.Distiller(teacher, student, transfers)

    with pytest.raises(ValueError, match="share weights.*Received: .*'shared/"):
        make()
    layer.trainable = False
    distiller = make()
    distiller.compile("sgd")
    before = [numpy(each.value).copy() for each in layer.variables]
    distiller.fit(X, verbose=0)
    after = [numpy(each.value) for each in layer.variables]
    assert all(map(np.array_equal, before, after))
    layer.trainable = True
    distiller.compile("sgd")
    with pytest.raises(ValueError, match="share weights"):
        distiller.fit(X, verbose=0)


class AlwaysDrops(layers.Layer):
    """Draws in inference, too."""

    def __init__(self):
        super().__init__()
        self.draws = keras.random.SeedGenerator(1)

    def call(self, inputs):
        return keras.random.dropout(inputs, 0.5, seed=self.draws)


def test_the_teacher_is_left_as_it_was():
    recurrent = layers.GRU(5, stateful=True)
    teacher = keras.Sequential(
        [
            keras.Input(batch_shape=(8, 3, 4)),
            layers.BatchNormalization(momentum=0.5),
            layers.Dropout(0.5),
            AlwaysDrops(),
            recurrent,
            layers.Dense(3),
        ]
    )
    recurrent.states[0].assign(np.ones((8, 5), "float32"))
    variables = [*teacher.variables, *recurrent.states]
    teacher.layers[0].trainable = False
    before = [numpy(each.value).copy() for each in variables]
    flags = [layer.trainable for layer in teacher.layers]
    distiller = kd.Distiller(teacher, model(), losses.SoftTargets())
    distiller.compile("adam")
    distiller.fit(X, epochs=2, batch_size=8, verbose=0)
    distiller.evaluate(X, batch_size=8, verbose=0)
    after = [numpy(each.value) for each in variables]
    assert all(map(np.array_equal, before, after))
    assert [layer.trainable for layer in teacher.layers] == flags

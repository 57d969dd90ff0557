"""Densely guided chains: all earlier models are teachers."""

import chains
import keras
import numpy as np
import pytest
from chains import model_of
from chains import samples
from support import numpy

import keras_kd as kd
from keras_kd.schemes import densely_guided
from keras_kd.testing import assert_close


class Batches(keras.callbacks.Callback):
    """Notes the teachers, and the mean losses after each batch."""

    def __init__(self, notes):
        super().__init__()
        self.notes = notes

    def on_train_begin(self, logs=None):
        members = getattr(self.model.teacher, "members", [self.model.teacher])
        self.notes.append({"members": members, "losses": []})

    def on_train_batch_end(self, batch, logs=None):
        losses = {
            key: value
            for key, value in logs.items()
            if key.startswith(("teacher", "assistant"))
        }
        self.notes[-1]["losses"].append(losses)


def test_all_earlier_models_are_teachers(tmp_path):
    notes, teacher = [], model_of(12)
    stages = [
        chains.stage_of(
            name, [lambda: Batches(notes)], teachers="all", transfers=None
        )
        for name in chains.WIDTHS
    ]
    chain = kd.schemes.Chain(teacher, stages, folder=tmp_path, seed=0)
    chains.fit(chain)
    models = [teacher, *chain.students]
    assert [stage["teachers"] for stage in chain.report] == [
        ["teacher"],
        ["teacher", "large"],
        ["teacher", "large", "medium"],
    ]
    for number, note in enumerate(notes):
        assert len(note["members"]) == number + 1
        assert all(a is b for a, b in zip(note["members"], models))
        names = ["teacher", "assistant_1", "assistant_2"][: number + 1]
        expected = {f"{name}_loss" for name in names}
        assert set(note["losses"][0]) == expected
        assert expected <= set(chain.report[number]["history"])


def kl_divergence(teacher, student, temperature):
    def log_softmax(logits):
        shifted = logits - logits.max(axis=-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))

    teacher, student = (
        log_softmax(logits.astype("float64") / temperature)
        for logits in (teacher, student)
    )
    each = (np.exp(teacher) * (teacher - student)).sum(axis=-1)
    return temperature**2 * each.mean()


def distiller_of(teachers, **kwargs):
    """The distiller of a chain's last stage."""
    distiller = kd.Distiller(
        kd.teachers.Ensemble(teachers),
        model_of(3),
        densely_guided(teachers, **kwargs),
    )
    distiller.compile(**chains.compiled())
    return distiller


def test_the_loss_in_numpy():
    teachers = [model_of(width) for width in (12, 9, 6)]
    distiller = distiller_of(teachers, temperature=5.0, weight=0.6)
    x, y = samples(8)
    # Nothing is dropped in evaluation.
    logs = distiller.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
    student = numpy(distiller.student(x))
    total = 0.1 * float(chains.compiled()["loss"](y, student))
    for teacher, name in zip(teachers, ("teacher", "assistant_1")):
        divergence = kl_divergence(numpy(teacher(x)), student, 5.0)
        assert_close(np.array(logs[f"{name}_loss"]), 0.2 * divergence)
    for teacher in teachers:
        total += 0.2 * kl_divergence(numpy(teacher(x)), student, 5.0)
    assert_close(np.array(logs["loss"]), np.array(total))


@pytest.mark.parametrize(
    ("rate", "expected"), [(None, 1 / 3), (0.0, 0.0), (0.7, 0.7)]
)
def test_some_teachers_are_dropped(rate, expected):
    teachers = [model_of(width) for width in (12, 9, 6)]
    for teacher in teachers:
        # Far from the student, for each sample.
        teacher.set_weights([10 * weight for weight in teacher.get_weights()])
    distiller = distiller_of(teachers, rate=rate)
    distiller.compile(keras.optimizers.SGD(0.0), chains.compiled()["loss"])
    x, _ = samples(120)
    y = np.argmax(numpy(distiller.teacher(x)), axis=-1)
    # Batches of one sample: the means' growth shows each batch's losses.
    notes = []
    distiller.fit(x, y, batch_size=1, verbose=0, callbacks=[Batches(notes)])
    names = ["teacher_loss", "assistant_1_loss", "assistant_2_loss"]
    means = np.array(
        [[losses[name] for name in names] for losses in notes[0]["losses"]]
    )
    sums = means * np.arange(1, 121)[:, None]
    grown = np.abs(np.diff(sums, axis=0, prepend=0)) > 1e-4
    dropped = 1 - grown.mean(axis=0)
    # Five standard deviations of a share of 120 draws.
    margin = 5 * np.sqrt(expected * (1 - expected) / 120)
    assert np.all(np.abs(dropped - expected) <= margin)
    if expected:
        # Each teacher has a draw of its own.
        assert len(np.unique(grown, axis=0)) == 8


def test_by_default_one_of_the_teachers_is_dropped_on_average():
    transfers = densely_guided([model_of(3) for _ in range(4)])
    assert [each.rules[0].rate for each in transfers] == [0.25] * 4


def test_a_single_teacher_is_not_dropped():
    (transfer,) = densely_guided([model_of(3)], rate=0.9)
    assert transfer.rules == []
    assert float(transfer.weight) == pytest.approx(0.9)

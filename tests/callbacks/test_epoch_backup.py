"""EpochBackup: a plain `fit` that was stopped ends up the same."""

import json
import pathlib

import keras
import numpy as np
import pytest
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy

import keras_kd as kd


class Interruption(Exception):
    pass


def interrupt_at(epoch, batch):
    epochs = []

    def on_batch_end(number, logs):
        if (epochs[-1], number) == (epoch, batch):
            raise Interruption

    return keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: epochs.append(epoch),
        on_train_batch_end=on_batch_end,
    )


def distiller_of_all_kinds_of_state():
    keras.utils.set_random_seed(0)
    distiller = kd.Distiller(
        functional_model(8, name="teacher"),
        functional_model(4, name="student", dropout=0.5),
        [
            kd.Transfer(
                kd.losses.SoftTargets(kd.schedules.Annealing(8, 1, steps=9))
            ),
            kd.Transfer(
                kd.losses.FeatureMatching(),
                teacher="stage2",
                student="stage2",
                adapter=kd.layers.FeatureAdapter(),
            ),
        ],
    )
    distiller.compile("adam", cross_entropy())
    return distiller


def state_of(distiller):
    """All that it has: with adapters, counts, random states, optimizer."""
    variables = [
        *distiller.variables,
        *distiller.student.variables,
        *distiller.optimizer.variables,
    ]
    return [numpy(variable.value) for variable in variables]


def fit(distiller, folder, *callbacks):
    """Fits over arrays that are shuffled, as Keras does by default."""
    backup = kd.callbacks.EpochBackup(folder)
    fade = kd.callbacks.WeightAnnealing(0.5, 0.1, transfer="hard", epochs=4)
    x, y = data()
    distiller.fit(
        x,
        y,
        batch_size=8,
        epochs=4,
        initial_epoch=backup.initial_epoch,
        verbose=0,
        callbacks=[fade, *callbacks, backup],
    )
    return backup


def test_interrupted_and_resumed_equals_not_interrupted(tmp_path):
    whole = distiller_of_all_kinds_of_state()
    backup = fit(whole, tmp_path / "whole")
    for at in [(0, 1), (1, 2), (3, 0)]:
        with pytest.raises(Interruption):
            fit(
                distiller_of_all_kinds_of_state(),
                tmp_path / "stopped",
                interrupt_at(*at),
            )
    resumed = distiller_of_all_kinds_of_state()
    again = fit(resumed, str(tmp_path / "stopped"))
    for one, two in zip(state_of(whole), state_of(resumed), strict=True):
        np.testing.assert_array_equal(one, two)
    assert again.history == backup.history
    assert len(again.history["loss"]) == again.initial_epoch == 4
    assert again.seconds > 0
    np.testing.assert_allclose(
        again.history["hard_weight"], np.linspace(0.5, 0.1, 4), rtol=1e-6
    )


def small_model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    return model


X, Y = np.eye(8, 4, dtype="float32"), np.ones((8, 2), "float32")


def test_interrupted_while_the_backup_is_written(tmp_path, monkeypatch):
    model, states = small_model(), []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: states.append(model.get_weights())
    )
    save = model.save_weights

    def fail(path):
        if len(states) == 3:
            pathlib.Path(path).write_text("ha")
            raise Interruption
        save(path)

    monkeypatch.setattr(model, "save_weights", fail)
    backup = kd.callbacks.EpochBackup(tmp_path)
    validated = {"validation_data": (X, Y), "validation_freq": 2, "verbose": 0}
    with pytest.raises(Interruption):
        model.fit(X, Y, epochs=4, callbacks=[keep, backup], **validated)
    # The logs of the third epoch are written, its weights are not.
    assert len(json.loads((tmp_path / "epochs.json").read_text())) == 3
    restored, other = kd.callbacks.EpochBackup(tmp_path), small_model()
    assert restored.initial_epoch == 2
    other.fit(X, Y, initial_epoch=2, epochs=2, callbacks=[restored])
    assert restored.history["loss"] == backup.history["loss"][:2]
    first, second = restored.history["val_loss"]
    assert first is None and second > 0
    for one, two in zip(other.get_weights(), states[1], strict=True):
        np.testing.assert_array_equal(one, two)
    # The next whole file takes the place of the half one.
    other.fit(X, Y, initial_epoch=2, epochs=3, callbacks=[restored], verbose=0)
    assert {path.name for path in tmp_path.iterdir()} == {
        "epochs.json",
        "epoch_3.weights.h5",
    }
    last = kd.callbacks.EpochBackup(tmp_path)
    assert last.initial_epoch == 3


def test_fit_that_begins_with_another_epoch(tmp_path):
    first, again = small_model(), small_model()
    backup = kd.callbacks.EpochBackup(tmp_path)
    first.fit(X, Y, epochs=2, verbose=0, callbacks=[backup])
    backup = kd.callbacks.EpochBackup(tmp_path)
    with pytest.raises(
        ValueError,
        match="with epoch 2. Received: a `fit` that begins with epoch 0",
    ):
        again.fit(X, Y, epochs=3, verbose=0, callbacks=[backup])

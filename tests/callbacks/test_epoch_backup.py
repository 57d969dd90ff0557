"""EpochBackup: a `fit` that was stopped ends up the same; what is refused."""

import os
import sys

import keras
import numpy as np
import processes
import pytest
from support import BACKEND
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
    fade = kd.callbacks.WeightAnnealing(0.5, 0.1, transfer="hard", epochs=4)
    backup = kd.callbacks.EpochBackup(folder, [fade, *callbacks])
    x, y = data()
    history = distiller.fit(
        x, y, batch_size=8, epochs=4, verbose=0, callbacks=[backup]
    )
    return backup, history.history


def test_interrupted_and_resumed_equals_not_interrupted(tmp_path):
    whole = distiller_of_all_kinds_of_state()
    backup, history = fit(whole, tmp_path / "whole")
    for at in [(0, 1), (1, 2), (3, 0)]:
        with pytest.raises(Interruption):
            fit(
                distiller_of_all_kinds_of_state(),
                tmp_path / "stopped",
                interrupt_at(*at),
            )
    resumed = distiller_of_all_kinds_of_state()
    again, same_history = fit(resumed, str(tmp_path / "stopped"))
    for one, two in zip(state_of(whole), state_of(resumed), strict=True):
        np.testing.assert_array_equal(one, two)
    assert again.history == backup.history == same_history == history
    assert len(again.history["loss"]) == again.initial_epoch == 4
    assert again.seconds > 0
    np.testing.assert_allclose(
        again.history["hard_weight"], np.linspace(0.5, 0.1, 4), rtol=1e-6
    )


class SmallModel(keras.Model):
    """With random numbers in a step, and a count that is no variable."""

    def __init__(self, blocks):
        super().__init__()
        self.dropout = keras.layers.Dropout(0.5)
        self.blocks = [keras.layers.Dense(4) for _ in range(blocks)]
        self.head = keras.layers.Dense(2)
        self.epochs_seen = 0

    def build(self, shape):
        for layer in [self.dropout, *self.blocks, self.head]:
            layer.build(shape)

    def call(self, inputs, training=None):
        x = self.dropout(inputs, training=training)
        for layer in self.blocks:
            x = layer(x)
        return self.head(x)

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["epochs_seen"] = np.int32(self.epochs_seen)

    def load_own_variables(self, store):
        self.epochs_seen = int(store["epochs_seen"])


X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = np.ones((8, 2), "float32")


def small_model(optimizer=None, blocks=1):
    keras.utils.set_random_seed(2)
    model = SmallModel(blocks)
    model.build((None, 4))
    model.compile(optimizer or keras.optimizers.Adam(0.1), "mse")
    return model


def counting_callbacks(folder):
    return [
        keras.callbacks.EarlyStopping(
            "val_loss", min_delta=10.0, patience=4, restore_best_weights=True
        ),
        keras.callbacks.ReduceLROnPlateau("val_loss", min_delta=10.0),
        keras.callbacks.ModelCheckpoint(
            folder / "best.weights.h5",
            "val_loss",
            save_best_only=True,
            save_weights_only=True,
        ),
    ]


def count_epochs(epoch, logs):
    count_epochs.model.epochs_seen += 1


def fit_small(folder, *callbacks, epochs=9):
    """Eight epochs at most: after the first, no loss is lower by 10."""
    model, counting = small_model(), counting_callbacks(folder)
    counting[1].patience = 2
    count = keras.callbacks.LambdaCallback(on_epoch_end=count_epochs)
    count_epochs.model = model
    backup = kd.callbacks.EpochBackup(folder, [*counting, count, *callbacks])
    history = model.fit(
        X,
        Y,
        batch_size=3,
        epochs=epochs,
        verbose=0,
        validation_data=(X, Y),
        callbacks=backup,
    )
    early, reduce_rate, checkpoint = counting
    counts = early.wait, early.best, reduce_rate.wait, checkpoint.best
    state = [numpy(v) for v in [*model.variables, *model.optimizer.variables]]
    return state, (history.history, history.epoch, counts, model.epochs_seen)


def assert_same(one, two):
    for a, b in zip(one[0], two[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert one[1] == two[1]


def test_counts_of_callbacks_and_the_end_of_a_run(tmp_path, capsys):
    whole = fit_small(tmp_path / "whole")
    history, epochs, (wait, *_), seen = whole[1]
    assert epochs == [0, 1, 2, 3, 4] and wait == 4 and seen == 5
    np.testing.assert_allclose(
        history["learning_rate"], [0.1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6
    )
    for at in [(0, 1), (2, 2), (3, 0)]:
        with pytest.raises(Interruption):
            fit_small(tmp_path / "stopped", interrupt_at(*at))
    assert_same(fit_small(tmp_path / "stopped"), whole)
    # Early stopping has ended it: nothing is trained once more.
    assert_same(fit_small(tmp_path / "stopped"), whole)
    assert capsys.readouterr().out == ""
    backup = kd.callbacks.EpochBackup(tmp_path / "stopped")
    small_model().fit(X, Y, epochs=9, verbose=2, callbacks=[backup])
    assert "is finished: 5 epochs" in capsys.readouterr().out


@pytest.mark.one_backend
def test_a_save_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    replace, names = os.replace, []

    def fail(source, target):
        names.append(target.name)
        if len(names) == 3:
            raise OSError("No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="space"):
        patch.setattr(os, "replace", fail)
        backup = kd.callbacks.EpochBackup(tmp_path)
        small_model().fit(X, Y, epochs=4, verbose=0, callbacks=[backup])
    assert names == ["epoch_1.npz", "epoch_2.npz", "epoch_3.npz"]
    assert {path.name for path in tmp_path.iterdir()} == {"lock", names[1]}
    assert kd.callbacks.EpochBackup(tmp_path).initial_epoch == 2


def fit_once(folder, model=None, epochs=1, **arguments):
    backup = kd.callbacks.EpochBackup(folder, **arguments)
    model = model or small_model()
    return model.fit(X, Y, epochs=epochs, verbose=0, callbacks=[backup])


@pytest.mark.one_backend
def test_another_model_or_optimizer(tmp_path):
    fit_once(tmp_path)
    others = {
        "model: 5 variables in the backup, now 7": small_model(blocks=2),
        "optimizer: class 'Adam' in the backup, now 'Nadam'": small_model(
            keras.optimizers.Nadam(0.1)
        ),
        "learning_rate 0.10.* in the backup, now 0.25": small_model(
            keras.optimizers.Adam(0.25)
        ),
        "class: SmallModel in the backup, now Sequential": keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(2)]
        ),
    }
    for text, model in others.items():
        if not model.compiled:
            model.compile("adam", "mse")
        before = model.get_weights()
        with pytest.raises(ValueError, match=text):
            fit_once(tmp_path, model, 2)
        for one, two in zip(before, model.get_weights()):
            np.testing.assert_array_equal(one, two)


@pytest.mark.one_backend
def test_a_file_that_was_damaged(tmp_path):
    fit_once(tmp_path)
    path = tmp_path / "epoch_1.npz"
    whole = path.read_bytes()
    for place in (100, len(whole) // 2, len(whole) - 5):
        content = bytearray(whole)
        content[place] ^= 255
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"Received: .*epoch_1\.npz"):
            fit_once(tmp_path, epochs=2)
    path.write_bytes(whole)
    fit_once(tmp_path, epochs=2)


def run_a_second_process(folder):
    """In another process: two runs where one is at work."""
    stage = kd.schemes.Stage("one", small_model, epochs=1, compile=dict)
    chain = kd.schemes.Chain(small_model(), [stage], folder=folder)
    for run in (lambda: fit_once(folder), lambda: chain.fit(X, Y)):
        with pytest.raises(ValueError) as error:
            run()
        assert "Another process is using" in str(error.value)
        print(str(error.value))


@pytest.mark.one_backend
@pytest.mark.skipif(sys.platform == "win32", reason="no locks of this kind")
def test_two_processes_in_one_folder(tmp_path):
    results = []

    def run_another(epoch, logs):
        results.append(processes.run(run_a_second_process, tmp_path))

    callback = keras.callbacks.LambdaCallback(on_epoch_end=run_another)
    fit_once(tmp_path, callbacks=[callback])
    assert results[0].returncode == 0, results[0].stderr
    assert results[0].stdout.count(f'"process": {os.getpid()}, "host"') == 2
    # It is free again.
    assert processes.run(fit_once, tmp_path, None, 2).returncode == 0


@pytest.mark.one_backend
def test_arguments(tmp_path):
    with pytest.raises(ValueError, match="one backup. Received: a BackupAnd"):
        kd.callbacks.EpochBackup(
            tmp_path, [keras.callbacks.BackupAndRestore(tmp_path)]
        )
    with pytest.raises(ValueError, match="random generators.*Received: 3"):
        kd.callbacks.EpochBackup(tmp_path, generators=[3])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="others build it in `fit`")
def test_a_model_that_is_not_built(tmp_path):
    model = keras.Sequential([keras.layers.Dense(2)], name="open")
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="'open', which is not built"):
        fit_once(tmp_path, model)


class DrawnBatches(keras.utils.PyDataset):
    """Draws its batches from generators of its own."""

    def __init__(self, random, others):
        super().__init__()
        self.random, self.others = random, others

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = self.random.permutation(8)[:4]
        return X[rows] * self.others.random(), Y[rows]


def weights_after(folder, make_fit, stop_at=None):
    """Of a run of three epochs, stopped at one if so."""
    model = small_model()
    callbacks = [interrupt_at(stop_at, 0)] if stop_at is not None else []
    try:
        make_fit(model, folder, callbacks)
    except Interruption:
        return None
    return [numpy(weight.value) for weight in model.weights]


def assert_resumed_exactly(tmp_path, make_fit):
    whole = weights_after(tmp_path / "whole", make_fit)
    for epoch in (1, 2):
        weights_after(tmp_path / "stopped", make_fit, epoch)
    resumed = weights_after(tmp_path / "stopped", make_fit)
    for one, two in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one, two)


def test_generators_of_ones_own(tmp_path):
    def make_fit(model, folder, callbacks):
        own = [np.random.default_rng(1), np.random.default_rng(2)]
        backup = kd.callbacks.EpochBackup(folder, callbacks, generators=own)
        batches = DrawnBatches(*own)
        model.fit(batches, epochs=3, verbose=0, callbacks=[backup])

    assert_resumed_exactly(tmp_path, make_fit)


def test_data_loader_with_a_generator(tmp_path):
    torch = pytest.importorskip("torch")
    samples = list(zip(torch.tensor(X), torch.tensor(Y)))

    def make_fit(model, folder, callbacks):
        own = torch.Generator().manual_seed(3)
        loader = torch.utils.data.DataLoader(
            samples, batch_size=3, shuffle=True, generator=own
        )
        backup = kd.callbacks.EpochBackup(folder, callbacks, generators=[own])
        model.fit(
            loader, epochs=3, shuffle=False, verbose=0, callbacks=[backup]
        )

    assert_resumed_exactly(tmp_path, make_fit)


def test_tensorflow_data_that_is_given_the_epoch(tmp_path):
    tf = pytest.importorskip("tensorflow")

    def make_fit(model, folder, callbacks):
        epoch = tf.Variable(0, dtype="int64")
        rows = tf.data.Dataset.from_tensor_slices((X, Y))
        shuffled = tf.data.Dataset.range(1).flat_map(
            lambda _: rows.shuffle(
                8, seed=epoch, reshuffle_each_iteration=False
            )
        )
        count = tf.data.experimental.assert_cardinality(8)
        batches = shuffled.apply(count).batch(4)
        tell = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda number, logs: epoch.assign(number)
        )
        backup = kd.callbacks.EpochBackup(folder, [tell, *callbacks])
        model.fit(
            batches, epochs=3, shuffle=False, verbose=0, callbacks=[backup]
        )
        orders.append([x.tolist() for x, _ in batches.as_numpy_iterator()])

    orders = []
    assert_resumed_exactly(tmp_path, make_fit)
    assert orders[0] == orders[1] != X.reshape(2, 4, 4).tolist()

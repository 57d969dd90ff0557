"""What is saved, what is not, and what loads."""

import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from keras import ops
from support import BACKEND
from support import KINDS
from support import MODELS
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy
from support import stage
from support import weights_of

import keras_kd as kd


def make(kind="functional", seed=0, **student_arguments):
    keras.utils.set_random_seed(seed)
    teacher = MODELS[kind](8, name="teacher")
    student = MODELS[kind](4, name="student", dropout=0.3, **student_arguments)
    distiller = kd.Distiller(
        teacher,
        student,
        [
            kd.Transfer(
                kd.losses.SoftTargets(
                    kd.schedules.Annealing(8.0, 1.0, steps=12, curve="cosine")
                ),
                weight=0.9,
            ),
            kd.Transfer(
                kd.losses.FeatureMatching("huber"),
                teacher=[stage(kind, "stage1"), stage(kind, "stage2")],
                student=[stage(kind, "stage1"), stage(kind, "stage2")],
                adapter=kd.layers.FeatureAdapter(),
            ),
        ],
        hard_weight=0.2,
    )
    distiller.compile(
        "adam",
        cross_entropy(),
        metrics=["accuracy", kd.metrics.TeacherAgreement()],
        weighted_metrics=[kd.metrics.TeacherDivergence()],
    )
    return distiller


def fit(distiller, epochs=1, **arguments):
    x, y = data()
    return distiller.fit(
        x, y, 8, epochs, shuffle=False, verbose=0, **arguments
    ).history


@pytest.mark.parametrize("kind", KINDS)
def test_save_load_and_train_on(kind, tmp_path):
    distiller = make(kind)
    fit(distiller)
    path = tmp_path / "distiller.keras"
    distiller.save(path)
    loaded = keras.models.load_model(path)
    assert loaded.teacher is None
    loaded.set_teacher(distiller.teacher)
    x, y = data()
    logs = [
        d.evaluate(x, y, verbose=0, return_dict=True)
        for d in (distiller, loaded)
    ]
    assert logs[0].keys() == logs[1].keys()
    for name in logs[0]:
        np.testing.assert_allclose(logs[0][name], logs[1][name], rtol=1e-5)
    # Bit for bit: optimizer, schedule position and random states, too.
    loaded.load_weights(path)
    second = fit(loaded)
    distiller.load_weights(path)
    assert fit(distiller) == second
    for a, b in zip(weights_of(distiller.student), weights_of(loaded.student)):
        np.testing.assert_array_equal(a, b)


def test_the_teacher_is_not_in_the_file(tmp_path):
    distiller = make()
    distiller.save(tmp_path / "distiller.keras")
    distiller.save_weights(tmp_path / "distiller.weights.h5")
    with zipfile.ZipFile(tmp_path / "distiller.keras") as archive:
        config = json.loads(archive.read("config.json"))
    assert "teacher" not in config["config"]
    import h5py

    names = []
    with h5py.File(tmp_path / "distiller.weights.h5") as file:
        file.visit(names.append)
        assert file["vars/teacher_fingerprint"].shape == (32,)
    assert not any("teacher" in n.replace("teacher_", "") for n in names)
    # One model among the layers; the rest are transfers and weights.
    assert "layers/functional" in names
    assert "layers/functional_1" not in names
    assert sum(w.size for w in distiller.get_weights()) < 2 * sum(
        w.size for w in distiller.student.get_weights()
    )


@pytest.mark.one_backend
def test_a_save_that_fails_leaves_the_earlier_file(tmp_path, monkeypatch):
    def fail(layer, store):
        raise OSError("No space left on device")

    distiller = make()
    methods = {
        "distiller.keras": distiller.save,
        "distiller.weights.h5": distiller.save_weights,
    }
    for name, save in methods.items():
        save(tmp_path / name)
    earlier = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(keras.layers.Dense, "save_own_variables", fail)
    for name, save in methods.items():
        with pytest.raises(OSError, match="No space"):
            save(str(tmp_path / name))
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == earlier


def test_what_a_step_counts_is_no_state(tmp_path):
    import h5py

    path = tmp_path / "distiller.weights.h5"
    make().save_weights(path)
    arrays = []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                arrays.append(name) if isinstance(item, h5py.Dataset) else None
            )
        )
    assert any("transfer" in name for name in arrays)
    assert not any("inspection" in name for name in arrays)


def test_the_student_alone_needs_no_keras_kd(tmp_path):
    distiller = make()
    fit(distiller)
    path = tmp_path / "student.keras"
    distiller.student.save(path)
    x, _ = data()
    np.save(tmp_path / "x.npy", x)
    program = (
        "import sys; sys.modules['keras_kd'] = None\n"
        "import keras, numpy as np\n"
        f"model = keras.models.load_model({str(path)!r})\n"
        f"x = np.load({str(tmp_path / 'x.npy')!r})\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, model.predict(x, verbose=0))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    np.testing.assert_allclose(
        np.load(tmp_path / "y.npy"),
        distiller.predict(x, verbose=0),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.skipif(
    BACKEND == "torch", reason="Keras exports SavedModels with TF and JAX"
)
@pytest.mark.filterwarnings("ignore")  # of TensorFlow's and JAX' exporters
def test_the_student_exports(tmp_path):
    if BACKEND == "jax":
        pytest.skip("jax2tf is not part of JAX' own package")
    distiller = make()
    fit(distiller)
    distiller.student.export(tmp_path / "export", verbose=False)
    import tensorflow as tf

    x, _ = data()
    exported = tf.saved_model.load(str(tmp_path / "export"))
    served = exported.serve(x)
    np.testing.assert_allclose(
        numpy(served), distiller.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )


def test_another_teacher_is_refused_and_nothing_changes(tmp_path):
    distiller = make()
    fit(distiller)
    path = tmp_path / "state.weights.h5"
    distiller.save_weights(path)

    other = make(seed=1)
    fit(other)
    before = weights_of(other) + [numpy(v) for v in other.optimizer.variables]
    with pytest.raises(ValueError, match="not the one.*Received.*expected"):
        other.load_weights(path)
    after = weights_of(other) + [numpy(v) for v in other.optimizer.variables]
    for a, b in zip(before, after):
        np.testing.assert_array_equal(a, b)

    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    with pytest.raises(ValueError, match="not the one"):
        loaded.set_teacher(other.teacher)
    assert loaded.teacher is None
    loaded.save(tmp_path / "again.keras")  # the fingerprint stays with it
    again = keras.models.load_model(tmp_path / "again.keras")
    with pytest.raises(ValueError, match="not the one"):
        again.set_teacher(other.teacher)
    again.set_teacher(distiller.teacher)


def test_one_changed_weight_makes_another_teacher():
    teacher = functional_model(8, name="teacher")
    before = kd.teachers.fingerprint(teacher)
    kernel = teacher.get_layer("stage2").kernel
    value = numpy(kernel.value).copy()
    value[1, 1, 3, 2] += 1e-3
    kernel.assign(value)
    assert np.any(before != kd.teachers.fingerprint(teacher))


def test_fingerprints_are_the_same_on_each_backend():
    """And in each version: files that were written before stay readable."""
    values = np.arange(70_000, dtype="float32").reshape(7, 10_000) - 0.5
    tensors = [
        ops.convert_to_tensor(values),
        ops.cast(ops.convert_to_tensor(values[:, :9]), "bfloat16"),
        ops.cast(ops.convert_to_tensor(values[:1] > 3.0), "bool"),
        ops.convert_to_tensor(np.int32(-7)),
    ]
    layers = [keras.layers.Layer() for _ in tensors]
    for layer, tensor in zip(layers, tensors):
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        layer.add_weight(tensor.shape, dtype=dtype, trainable=False)
        layer.weights[0].assign(tensor)
        layer.built = True
    model = keras.Sequential(layers)
    found = bytes(kd.teachers.fingerprint(model)).hex()
    assert found[:16] == "46e3fb9c228d6ba0"


def test_fit_reads_the_weights_of_the_teacher_once(tmp_path):
    calls = []

    class Counting(keras.layers.Layer):
        def call(self, inputs):
            return inputs

        def fingerprint_bytes(self):
            calls.append(1)
            return b""

    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(3)(Counting()(inputs))
    teacher = keras.Model(inputs, outputs, name="teacher")
    student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    distiller = kd.Distiller(teacher, student)
    distiller.compile("sgd", loss=None)
    every = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    x = np.ones((4, 4), "float32")
    distiller.fit(x, epochs=3, callbacks=[every], verbose=0)
    assert len(list(tmp_path.iterdir())) == 3 and len(calls) == 1
    distiller.save_weights(tmp_path / "after.weights.h5")
    assert len(calls) == 2


def test_model_checkpoint_and_early_stopping(tmp_path):
    distiller = make()
    x, y = data()
    path = tmp_path / "best.keras"
    history = fit(
        distiller,
        epochs=4,
        validation_data=(x, y),
        callbacks=[
            keras.callbacks.ModelCheckpoint(path, save_best_only=True),
            keras.callbacks.ModelCheckpoint(
                tmp_path / "w.weights.h5", save_weights_only=True
            ),
            keras.callbacks.EarlyStopping(
                monitor="val_loss", patience=0, restore_best_weights=True
            ),
        ],
    )
    best = int(np.argmin(history["val_loss"]))
    loaded = keras.models.load_model(path)
    loaded.set_teacher(distiller.teacher)
    for model in (loaded, distiller):
        logs = model.evaluate(x, y, verbose=0, return_dict=True)
        np.testing.assert_allclose(
            logs["hard_loss"], history["val_hard_loss"][best], rtol=1e-5
        )
    distiller.load_weights(tmp_path / "w.weights.h5")


def test_early_stopping_restores_the_student():
    distiller = make()
    x, y = data()

    class Worse(keras.callbacks.Callback):
        """Spoils the student after the second epoch."""

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                self.best = self.model.student.get_weights()
            logs["spoiled"] = float(epoch)

    worse = Worse()
    fit(
        distiller,
        epochs=5,
        callbacks=[
            worse,
            keras.callbacks.EarlyStopping(
                monitor="spoiled",
                mode="min",
                patience=2,
                start_from_epoch=1,
                restore_best_weights=True,
            ),
        ],
    )
    for a, b in zip(worse.best, distiller.student.get_weights()):
        np.testing.assert_array_equal(a, b)

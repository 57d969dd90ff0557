"""The main job, in brief: what other versions of Keras are tested with."""

import keras
import numpy as np
import pytest
from support import KINDS
from support import MODELS
from support import cross_entropy
from support import data
from support import stage
from support import weights_of

import keras_kd as kd

# Other versions meet names of NumPy that are deprecated, or deprecate theirs.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


class Regularized(keras.Model):
    """What a distiller is to Keras: a model around one, with its own loss."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, inputs, training=None):
        return self.model(inputs, training=training)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + 0.1 * keras.ops.mean(keras.ops.square(y_pred))


@pytest.mark.parametrize("kind", KINDS)
def test_keras_alone(kind, tmp_path):
    """Where this fails, so must the others: the fault is not `keras_kd`'s."""
    model = MODELS[kind](4, name="model", dropout=0.5, regularizer="l2")
    trainer = Regularized(model)
    trainer.compile("adam", cross_entropy(), metrics=["accuracy"])
    x, y = data()
    trainer(x)
    backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    trainer.fit(x, y, batch_size=10, verbose=0, callbacks=[backup])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        model.predict(x, verbose=0), loaded.predict(x, verbose=0), rtol=1e-5
    )
    logs = trainer.evaluate(x, y, verbose=0, return_dict=True)
    assert np.isfinite(logs["loss"])


@pytest.mark.parametrize("kind", KINDS)
def test_fit_evaluate_save_and_resume(kind, tmp_path):
    teacher = MODELS[kind](8, name="teacher")
    student = MODELS[kind](4, name="student", regularizer="l2")
    distiller = kd.Distiller(
        teacher,
        student,
        [
            kd.Transfer(kd.losses.SoftTargets(8.0), weight=0.9),
            kd.Transfer(
                kd.losses.FeatureMatching(),
                teacher=stage(kind, "stage2"),
                student=stage(kind, "stage2"),
                adapter=kd.layers.FeatureAdapter(),
            ),
            kd.Transfer(
                kd.losses.AttentionTransfer(),
                teacher=stage(kind, "stage1"),
                student=stage(kind, "stage1"),
                weight=kd.schedules.Annealing(1.0, 0.0, steps=5),
            ),
        ],
    )
    distiller.compile(
        "adam",
        cross_entropy(),
        metrics=["accuracy", kd.metrics.TeacherAgreement()],
    )
    x, y = data()
    before = weights_of(teacher)
    history = distiller.fit(
        x,
        y,
        batch_size=10,
        epochs=3,
        verbose=0,
        callbacks=[
            kd.callbacks.TemperatureAnnealing(8.0, 1.0, epochs=3),
            keras.callbacks.BackupAndRestore(str(tmp_path / "backup")),
        ],
    ).history
    assert history["soft_targets_temperature"] == [8.0, 4.5, 1.0]
    parts = ["hard_loss", "soft_targets_loss", "feature_matching_loss"]
    parts += ["attention_transfer_loss", "student_losses"]
    total = np.sum([history[name] for name in parts], axis=0)
    np.testing.assert_allclose(history["loss"], total, rtol=1e-5)
    for a, b in zip(before, weights_of(teacher)):
        np.testing.assert_array_equal(a, b)

    path = str(tmp_path / "distiller.keras")
    distiller.save(path)
    loaded = keras.models.load_model(path)
    loaded.set_teacher(teacher)
    logs = [
        model.evaluate(x, y, verbose=0, return_dict=True)
        for model in (distiller, loaded)
    ]
    for name in logs[0]:
        np.testing.assert_allclose(logs[0][name], logs[1][name], rtol=1e-5)
    loaded.fit(x, y, verbose=0)


def test_a_cache_in_the_place_of_the_teacher(tmp_path):
    teacher = MODELS["functional"](8, name="teacher")
    student = MODELS["functional"](4, name="student")
    x, y = data()
    outputs = {"": kd.cache.TopK(2, 4.0), "stage2": kd.cache.Int8()}
    kd.cache.write(teacher, x, tmp_path, outputs=outputs, verbose=0)
    answers = kd.cache.open(tmp_path, teacher=teacher)
    distiller = kd.Distiller(answers, student)
    distiller.compile("adam", cross_entropy(), metrics=["accuracy"])
    history = distiller.fit(
        answers.join(x, y, batch_size=10, seed=0),
        validation_data=(x, y),
        verbose=0,
    ).history
    assert np.isfinite(history["soft_targets_loss"]).all()
    assert "val_accuracy" in history
    assert "val_soft_targets_loss" not in history

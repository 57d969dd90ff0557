"""A run that can be killed.

Trains with an EpochBackup in a folder; kills itself at a training step, or
writes the student's weights to student.npz in the folder at the end.
"""

import os
import signal

import keras
import numpy as np
from support import BACKEND
from support import cross_entropy
from support import data
from support import functional_model

import keras_kd as kd


class KillAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder, epochs, kill_at, teacher_seed=0):
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(teacher_seed)
    teacher = functional_model(8, name="teacher")
    keras.utils.set_random_seed(7)
    student = functional_model(4, name="student", dropout=0.5)
    distiller = kd.Distiller(
        teacher,
        student,
        [
            kd.Transfer(
                kd.losses.SoftTargets(
                    kd.schedules.Annealing(8.0, 1.0, steps=19)
                )
            ),
            kd.Transfer(
                kd.losses.FeatureMatching(),
                teacher="stage2",
                student="stage2",
                adapter=kd.layers.FeatureAdapter(),
                weight=kd.schedules.Annealing(1.0, 0.1, steps=15),
            ),
        ],
    )
    distiller.compile("adam", cross_entropy())
    x, y = data(40)
    distiller.fit(
        x,
        y,
        batch_size=8,
        epochs=epochs,
        verbose=0,
        callbacks=[
            kd.callbacks.EpochBackup(
                folder / "backup",
                [
                    kd.callbacks.WeightAnnealing(
                        0.5, 0.1, transfer="hard", epochs=epochs
                    ),
                ],
            ),
            KillAt(kill_at),
        ],
    )
    np.savez(folder / "student.npz", *student.get_weights())

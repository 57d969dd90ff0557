"""Chains that can be killed.

Each trains three densely guided stages; kills itself at a training step of a
stage, or while the student of a stage is written (step "save"). Prints the
epochs that it trains.
"""

import itertools
import os
import pathlib
import signal
import sys

import chains
import keras
from support import BACKEND

import keras_kd as kd


def kill():
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


class KillAt(keras.callbacks.Callback):
    """Kills the process at a step, or in the writing of the student."""

    def __init__(self, stage, step):
        super().__init__()
        self.stage, self.step = stage, step
        self.at = int(step) if step.isdigit() else -1
        self.steps = itertools.count(1)  # Counts anew in each process.

    def on_train_begin(self, logs=None):
        if self.step == "save":
            self.model.student.save = self.write_half

    def write_half(self, path):
        pathlib.Path(path).write_bytes(b"PK half a file")
        kill()

    def on_epoch_begin(self, epoch, logs=None):
        print(self.stage, epoch)

    def on_train_batch_end(self, batch, logs=None):
        if next(self.steps) == self.at:
            kill()


def train(folder, stage, step):
    keras.utils.set_random_seed(0)
    teacher = chains.model_of(12)

    def stage_of(name):
        at = step if name == stage else ""
        callbacks = [lambda: KillAt(name, at)]
        return chains.stage_of(name, callbacks, teachers="all", transfers=None)

    stages = [stage_of(name) for name in chains.WIDTHS]
    # The processes draw no seeds of the same state.
    keras.utils.set_random_seed(len(os.listdir(folder)))
    chains.fit(kd.schemes.Chain(teacher, stages, folder=folder))


def main(*runs):
    """Each run is a folder, a stage and a step."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    for arguments in runs:
        train(*arguments)

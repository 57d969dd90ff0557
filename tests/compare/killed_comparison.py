"""A comparison that kills its process in the middle of a run."""

import os
import signal

import comparisons
import keras


class Killed(keras.callbacks.Callback):
    """Kills the process after some steps of a `fit`."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


def kill_in_fit(number, step):
    """Has the process killed in the fit of this number, at a step."""
    fits, own = [], keras.Model.fit

    def fit(self, *args, callbacks=(), **kwargs):
        fits.append(self)
        if len(fits) == number:
            callbacks = [*callbacks, Killed(step)]
        return own(self, *args, callbacks=callbacks, **kwargs)

    keras.Model.fit = fit


def main(folder, number, step):
    kill_in_fit(number, step)
    comparisons.compare(folder=folder, verbose=1)

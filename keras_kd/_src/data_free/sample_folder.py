"""Batches of samples, made one after the other and stored in a folder."""

import pathlib
import zipfile

import keras
import numpy as np

from keras_kd._src.arguments import integer
from keras_kd._src.array_file import opened_arrays
from keras_kd._src.array_file import write_arrays
from keras_kd._src.fingerprint import digest
from keras_kd._src.fingerprint import fingerprint
from keras_kd._src.fingerprint import hexadecimal


def make_batches(optimizer, targets, *, steps, seed, folder, verbose):
    """Makes samples for all targets, or reads those that a folder has.

    Args:
        optimizer: an `InputOptimizer`.
        targets: array `(samples, classes)`, of whole batches.
        steps: steps for each batch.
        seed: an integer, from which each batch gets a seed of its own.
        folder: path, or None.
        verbose: whether to show progress.

    Returns:
        Array of all samples.
    """
    size = optimizer.samples.shape[0]
    steps, seed = integer(steps, "steps"), integer(seed, "seed", least=0)
    parts = np.split(targets, len(targets) // size)
    bar = keras.utils.Progbar(len(parts), verbose=verbose, unit_name="batch")
    made = []
    for number, part in enumerate(parts):
        path = folder and pathlib.Path(folder) / f"samples_{number:05}.npz"
        run = _run_of(optimizer, part, steps, [seed, number])
        samples = loss = None
        if path:
            samples, loss = _kept(path, run, optimizer.samples)
        if samples is None:
            samples, loss = optimizer.run(part, steps, [seed, number])
            _check_finite(samples, loss)
            if path:
                arrays = {"run": run, "samples": samples, "targets": part}
                arrays["loss"] = np.float64(loss)
                write_arrays(path, arrays, shared=True)
        made.append(samples)
        bar.update(number + 1, [("loss", loss)])
    return np.concatenate(made)


def _run_of(optimizer, targets, steps, seed):
    """A fingerprint of all that a batch depends on, 32 bytes."""
    texts = [repr(optimizer.settings(steps, seed)).encode()]
    models = optimizer.models
    return digest(texts, [targets, *map(fingerprint, models)])


def _kept(path, run, like):
    """The samples and loss of a batch that was stored, or None for both."""
    if not zipfile.is_zipfile(path):  # No file yet, or half of one.
        return None, None
    damaged = f"The file {str(path)!r} is damaged. Remove it."
    with opened_arrays(path, damaged) as read:
        found = read("run", run.shape, run.dtype)
        if not np.array_equal(found, run):
            raise ValueError(
                f"The file {str(path)!r} holds samples of another teacher or "
                f"of other settings. Received: {hexadecimal(found[:6])}, "
                f"expected {hexadecimal(run[:6])}. Give another `folder`, or "
                "remove the files."
            )
        kept = read("samples", like.shape, like.dtype)
        loss = float(read("loss", (), "float64"))
    _check_finite(kept, loss)
    return kept, loss


def _check_finite(samples, loss):
    if not (np.isfinite(loss) and np.isfinite(samples).all()):
        raise ValueError(
            "The samples are not finite. Received: a loss of "
            f"{loss}. Lower `learning_rate`, and check that `value_range` is "
            "that of the teacher's inputs."
        )

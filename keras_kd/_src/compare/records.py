"""Finished runs in a folder, each stored completely or not at all."""

import json
import pathlib
import re

import keras

from keras_kd._src.array_file import opened_arrays
from keras_kd._src.array_file import write_arrays
from keras_kd._src.atomic_write import write_json
from keras_kd._src.checked_json import read_json
from keras_kd._src.compare.contents import RECORD
from keras_kd._src.fingerprint import digest
from keras_kd._src.fingerprint import hexadecimal
from keras_kd._src.specs import finalize


class Records:
    """The records of finished runs, by way and seed.

    A run has two files, such as `student_alone_seed_0.npz` with its weights in
    the order of `get_weights`, and `student_alone_seed_0.json`, which is
    written last.

    Args:
        folder: path, or None to keep nothing.
        ways: the names of all ways.

    Raises:
        ValueError: two ways would have the same file name; in `find`, a run in
            the folder was made with other settings.
    """

    def __init__(self, folder, ways):
        self.folder = None if folder is None else pathlib.Path(folder)
        names = {way: re.sub(r"\W+", "_", way).strip("_") for way in ways}
        if len(set(names.values())) < len(names):
            raise ValueError(
                "The names of ways must differ in letters or digits, as files "
                f"are named after them. Received: {list(names)}."
            )
        self._names = names

    def find(self, way, seed, settings):
        """The record of a finished run, or None."""
        path = self._file(way, seed, ".json")
        if path is None or not path.exists():
            return None
        found = read_json(path, RECORD, self._damaged(path))
        now = json.loads(json.dumps(settings))
        for key, before in found["settings"].items():
            if now.get(key) != before:
                raise ValueError(
                    f"The folder {str(self.folder)!r} holds another "
                    f"comparison: {way!r}, seed {seed}, was made with another "
                    f"{key}, and a finished run is not made again. Received: "
                    f"{key}: {now.get(key)!r}; in the folder: {before!r}. "
                    "Restore the earlier value, or give another folder."
                )
        return found["run"]

    def save(self, way, seed, settings, run, model):
        """Stores a finished run: first its weights, then the measurements."""
        if self.folder is None:
            return
        weights = model.get_weights()
        arrays = {f"arr_{n}": each for n, each in enumerate(weights)}
        write_arrays(self._file(way, seed, ".npz"), arrays)
        # The digest shows that weights and measurements belong together.
        belongs = hexadecimal(digest([], weights))
        record = {"settings": settings, "weights": belongs, "run": run}
        write_json(self._file(way, seed, ".json"), record)

    def load(self, way, seed, model):
        """Loads the weights of a finished run into a model."""
        path = self._file(way, seed, ".npz")
        damaged = self._damaged(path)
        with opened_arrays(path, damaged) as read:
            weights = [
                read(f"arr_{number}", weight.shape, weight.dtype)
                for number, weight in enumerate(model.get_weights())
            ]
        about = self._file(way, seed, ".json")
        belongs = read_json(about, RECORD, self._damaged(about))["weights"]
        if hexadecimal(digest([], weights)) != belongs:
            raise ValueError(
                f"{damaged} Received: other weights than those that "
                f"{about.name} was written for."
            )
        model.set_weights(weights)
        finalize(model)

    def _damaged(self, path):
        return (
            f"The file {str(path)!r} is damaged, or of another comparison. "
            "Delete it and the file of the same name with the other suffix "
            "(.npz, .json), and the run is made again."
        )

    def _file(self, way, seed, ending):
        if self.folder is None:
            return None
        return self.folder / f"{self._names[way]}_seed_{seed}{ending}"


def described(value):
    """The arguments of `compile` as values that can be compared."""
    if isinstance(value, dict):
        return {str(key): described(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(each) for each in value]
    if isinstance(value, str):
        return without_numbers(value)
    if value is None or isinstance(value, (int, float)):
        return value
    if hasattr(value, "get_config"):
        config = keras.saving.serialize_keras_object(value.get_config())
        return [type(value).__name__, described(config)]
    return getattr(value, "__qualname__", type(value).__name__)


def without_numbers(text):
    """A text without the numbers that Keras appends to names."""
    return re.sub(r"(?<=[a-z])_\d+(?=\W|$)| at 0x[0-9a-f]+", "", text)

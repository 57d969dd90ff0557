"""Writes a file in a process of another backend.

The student is passed as a `.keras` file, everything else as one pickle, in a
private temporary folder.
"""

import importlib
import json
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import zipfile

import keras

from keras_kd._src.custom_functions import custom_functions
from keras_kd._src.export.converter_errors import ConverterError
from keras_kd._src.export.formats import write_and_run

STUDENT, JOB, RESULT = "student.keras", "job.pickle", "result.pickle"
# The parent process may have taken all of the accelerator's memory.
ON_CPU = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
# The new process finds modules in the same places as its parent.
START = """
import pickle, sys
folder, sys.path[:] = sys.argv[1], pickle.loads(bytes.fromhex(sys.argv[2]))
from keras_kd._src.export.child import main
main(folder)
"""
# Keras finds classes of these packages by itself.
KNOWN = ("keras", "keras_hub", "keras_kd", "builtins")


def write_elsewhere(student, job, path, backend):
    """`write_and_run`, in a new process of another backend."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        _save(student, folder / STUDENT)
        objects = _own_objects(student, folder / STUDENT)
        settings = {
            "floatx": keras.config.floatx(),
            "epsilon": keras.config.epsilon(),
            "image_data_format": keras.config.image_data_format(),
            "dtype_policy": keras.config.dtype_policy().name,
        }
        order = pickle.dumps((job, path, settings, objects))
        (folder / JOB).write_bytes(order)
        ended = subprocess.run(
            [sys.executable, "-c", START, folder, pickle.dumps(sys.path).hex()],
            env=os.environ | ON_CPU | {"KERAS_BACKEND": backend},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        return _result(folder / RESULT, ended, student, backend)


def _save(student, path):
    try:
        student.save(path, include_optimizer=False)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"The student {student.name!r} is exported in a process of "
            "another backend, so it must be one that Keras can save. "
            f"Received from Keras: {error}"
        ) from error


def _own_objects(student, path):
    """What the other process must import: `name in configs -> (module, name)`.

    Keras itself imports only from its own modules.
    """
    with zipfile.ZipFile(path) as file:
        config = json.loads(file.read("config.json"))
    found = {}
    functions = [(f.__module__, f.__name__) for f in custom_functions(student)]
    functions = [(m, name, name) for m, name in functions if not _is_known(m)]
    for module, name, known in [*_classes(config), *functions]:
        if module == "__main__" or not hasattr(sys.modules[module], name):
            raise ValueError(
                f"The student {student.name!r} is exported in a process of "
                "another backend, which imports classes and functions from "
                f"modules. Received: {name!r}, which can't be imported from "
                f"the module {module!r}. Put it into a module of its own, "
                "outside any function, and import it from there."
            )
        found[known] = module, name
    return found


def _classes(config):
    """Yields `(module, name, registered name)` of a config's own classes."""
    if isinstance(config, list):
        for each in config:
            yield from _classes(each)
    if not isinstance(config, dict):
        return
    module, name = config.get("module"), config.get("class_name")
    if name and module and not _is_known(module):
        yield module, name, config.get("registered_name") or name
    for key, value in config.items():
        if key != "compile_config":
            yield from _classes(value)


def _is_known(module):
    return module.partition(".")[0] in KNOWN


def _result(path, ended, student, backend):
    """The result of the process; raises its error if there was one."""
    if not path.exists():
        last = "\n".join(ended.stdout.splitlines()[-20:])
        raise ValueError(
            f"The process of {backend} that exports the student "
            f"{student.name!r} ended early. Received: exit code "
            f"{ended.returncode}, and as its last lines\n{last}"
        )
    written, error = pickle.loads(path.read_bytes())
    if error is not None:
        raise error
    return written


def main(folder):
    """Runs in the other process."""
    folder = pathlib.Path(folder)
    job, path, settings, objects = pickle.loads((folder / JOB).read_bytes())
    written = error = None
    try:
        for name, value in settings.items():
            getattr(keras.config, f"set_{name}")(value)
        student = _loaded(folder / STUDENT, objects)
        written = write_and_run(student, job, path)
    except OSError as raised:  # The parent process raises it again.
        error = raised
    except ConverterError as raised:
        error = ConverterError(str(raised))
    except ValueError as raised:
        error = ValueError(str(raised))
    (folder / RESULT).write_bytes(pickle.dumps((written, error)))


def _loaded(path, objects):
    """The student; it is safe to load, as this program has just saved it."""
    custom = {
        known: getattr(importlib.import_module(module), name)
        for known, (module, name) in objects.items()
    }
    try:
        return keras.saving.load_model(
            path, custom, compile=False, safe_mode=False
        )
    except Exception as error:
        raise ValueError(
            "The student can't be loaded in a process of "
            f"{keras.backend.backend()}, which exports it. Received from "
            f"Keras: {type(error).__name__}: {error}"
        ) from error

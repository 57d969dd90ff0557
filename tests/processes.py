"""New processes that need not import Keras, which takes seconds.

Each is forked from one that has imported it, and has done nothing else.
"""

import multiprocessing
import multiprocessing.connection
import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

ROOT = pathlib.Path(__file__).parents[1]
# What macOS makes of forks isn't worth the seconds.
START = "forkserver" if sys.platform == "linux" else "spawn"
IMPORTED = ["keras_kd", "matplotlib.pyplot", "pytest", "sklearn.ensemble"]
STREAMS = "out", "err"
ENVIRONMENT = {
    "MPLBACKEND": "Agg",
    # Of such small models, threads only wait for one another.
    "OMP_NUM_THREADS": "1",
    # Else Ray's workers wait for all other tests that run.
    "RAY_worker_niceness": "0",
    "PYTHONPATH": os.pathsep.join(
        filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    ),
}


def run(function, *arguments):
    """Calls a function of a module; its exit code, and what it printed."""
    (result,) = run_each(function, [arguments])
    return result


def run_each(function, arguments):
    """Likewise in a process for each list of arguments, all at once.

    Where one fails the others are ended, as they may wait for it.
    """
    context = multiprocessing.get_context(START)
    context.set_forkserver_preload(IMPORTED)
    with tempfile.TemporaryDirectory() as folder:
        printed = [
            [pathlib.Path(folder, f"{name}_{number}") for name in STREAMS]
            for number in range(len(arguments))
        ]
        started = [
            context.Process(target=_call, args=(paths, function, given))
            for paths, given in zip(printed, arguments)
        ]
        with mock.patch.dict(os.environ, ENVIRONMENT):
            for process in started:
                process.start()
        _wait(started)
        return [
            subprocess.CompletedProcess(
                function,
                process.exitcode,
                *(each.read_text() for each in paths),
            )
            for process, paths in zip(started, printed)
        ]


def _wait(started):
    left = {process.sentinel: process for process in started}
    while left:
        for ended in multiprocessing.connection.wait(left):
            if left.pop(ended).exitcode:
                for process in left.values():
                    process.terminate()


def _call(printed, function, arguments):
    for stream, path in enumerate(printed, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    function(*arguments)

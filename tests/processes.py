"""New processes that need not import Keras, which takes seconds.

Each is forked from one that has imported it, and has done nothing else.
"""

import multiprocessing
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
    context = multiprocessing.get_context(START)
    context.set_forkserver_preload(IMPORTED)
    with tempfile.TemporaryDirectory() as folder:
        printed = [pathlib.Path(folder, name) for name in ("out", "err")]
        process = context.Process(
            target=_call, args=(printed, function, arguments)
        )
        with mock.patch.dict(os.environ, ENVIRONMENT):
            process.start()
        process.join()
        texts = [path.read_text() for path in printed]
    return subprocess.CompletedProcess(function, process.exitcode, *texts)


def _call(printed, function, arguments):
    for stream, path in enumerate(printed, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    function(*arguments)

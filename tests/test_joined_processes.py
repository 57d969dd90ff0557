"""Two processes of PyTorch train the student that one trains."""

import socket

import joined_run
import keras
import processes
import pytest
from support import BACKEND

import keras_kd as kd


@pytest.mark.skipif(BACKEND != "torch", reason="others distribute by Keras")
def test_two_processes_train_the_same_student(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    runs = [(rank, port, tmp_path) for rank in range(2)]
    results = processes.run_each(joined_run.joined, runs)
    print(results[0].stdout)
    failed = [each.stderr for each in results if each.returncode > 0]
    assert not failed, failed[0][-5000:]


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's processes")
def test_one_process_need_not_be_joined():
    kd.distribution.initialize()
    distiller, arguments = joined_run.soft_targets()
    distiller.compile("sgd", **arguments.pop("compiled"))
    x, y = joined_run.data(joined_run.SAMPLES)
    distiller.fit(x, y, verbose=0)


@pytest.mark.skipif(BACKEND == "torch", reason="others distribute by Keras")
def test_other_backends_have_their_own():
    with pytest.raises(ValueError, match=keras.backend.backend()):
        kd.distribution.initialize()

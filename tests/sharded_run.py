"""Trains on one device and on several (JAX); prints the differences.

    python sharded_run.py      2 x 2 devices, and two hosts of two devices
    python sharded_run.py all  4 devices, too, and all ways on two hosts

Each host is a process that `hosts` starts, by its number, a port and a folder.
"""

import os
import pathlib
import pickle
import socket
import subprocess
import sys
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    # Small models: most of the time is the compiler's.
    + " --xla_backend_optimization_level=0"
    + f" --xla_force_host_platform_device_count={2 if len(sys.argv) > 2 else 4}"
)

import device_cases
import jax
import keras
import numpy as np
from device_cases import Host

ON_HOSTS = {"together", "cached"}


def layouts():
    """Teachers' and students' kernels are split, and the adapters'."""
    devices = keras.distribution.DeviceMesh((2, 2), ["batch", "model"])
    layout = keras.distribution.LayoutMap(devices)
    layout[".*(hidden|shrunk_.|head|projection_.)/kernel"] = (None, "model")
    layout[".*embedding/embeddings"] = (None, "model")
    return keras.distribution.ModelParallel(layout_map=layout)


def trained(case, distribution=None):
    keras.distribution.set_distribution(distribution)
    run = device_cases.made(case)
    found = device_cases.fitted(run)
    if isinstance(distribution, keras.distribution.ModelParallel):
        for part in run.parts:
            check_sharded(part)
    return found


def check_sharded(part):
    """Weights are in parts, the teacher's, too."""
    for model in (part, getattr(part, "teacher", None)):
        variables = getattr(model, "variables", [])
        whole = [v.value.sharding.is_fully_replicated for v in variables]
        assert not (whole and all(whole)), model


def main(everything):
    expected = {}
    cases = device_cases.CASES if everything else device_cases.QUICK
    for case in cases:
        expected[case.__name__] = trained(case)
    started = hosts(expected, everything)
    for case in cases:
        name = case.__name__
        if everything:
            distribution = keras.distribution.DataParallel()
            device_cases.compare(
                f"4 devices, {name}",
                expected[name],
                trained(case, distribution),
            )
        found = trained(case, layouts())
        device_cases.compare(f"2 x 2, {name}", expected[name], found)
    for host in started:
        said, error = host.communicate()
        print(said)
        assert host.returncode == 0, error[-5000:]


def hosts(expected, everything):
    """Starts two processes that train together."""
    if not everything:
        expected = {name: expected[name] for name in ON_HOSTS}
    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / "expected").write_bytes(pickle.dumps(expected))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = [sys.executable, __file__]
    return [
        subprocess.Popen(
            [*program, number, port, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in "01"
    ]


def host(number, port, folder):
    """One of the two."""
    from jax.experimental import multihost_utils

    Host.number, Host.count, Host.folder = int(number), 2, f"{folder}/cache"
    Host.wait = lambda: multihost_utils.sync_global_devices("wait")
    keras.distribution.initialize(f"127.0.0.1:{port}", 2, Host.number)
    assert len(jax.devices()) == 4
    expected = (pathlib.Path(folder) / "expected").read_bytes()
    expected = pickle.loads(expected)
    for case in device_cases.QUICK[:2] + device_cases.CASES:
        name = case.__name__
        if name not in expected or name == "without_data":
            continue
        distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
        found = trained(case, distribution)
        device_cases.compare(f"2 hosts, {name}", expected[name], found)
    save_and_load(expected["cached"], pathlib.Path(folder) / number)


def save_and_load(expected, folder):
    """A teacher that no host holds all of: to gather it is an error."""
    Host.number, Host.count = 0, 1  # Both hosts have all of each batch.
    first, second, third, fourth = keras.distribution.list_devices()
    devices = keras.distribution.DeviceMesh(
        (2, 2),
        ["batch", "model"],
        # Each model is in parts on both hosts.
        devices=np.array([[first, third], [second, fourth]]),
    )
    layout = keras.distribution.LayoutMap(devices)
    layout["teacher_(hidden|head)/kernel"] = (None, "model")
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(
            layout_map=layout, auto_shard_dataset=False
        )
    )
    run = device_cases.made(device_cases.live)
    kernel = run.distiller.teacher.get_layer("teacher_hidden").kernel
    assert not kernel.value.is_fully_addressable
    found = device_cases.fitted(run)
    device_cases.compare("2 hosts, teacher in parts", expected, found)
    run.distiller.save_weights(f"{folder}.weights.h5")
    run.distiller.load_weights(f"{folder}.weights.h5")
    run.distiller.save(f"{folder}.keras")
    loaded = keras.models.load_model(f"{folder}.keras")
    loaded.set_teacher(run.distiller.teacher)
    assert not kernel.value.is_fully_addressable
    values = device_cases.values_of([loaded])
    device_cases.compare("2 hosts, loaded", ({}, found[1]), ({}, values))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        host(*sys.argv[1:])
    else:
        main(everything=sys.argv[1:] == ["all"])

"""Trains on one device and on four (JAX); prints the differences.

python sharded_run.py                   data parallel, and 2 x 2 sharded
python sharded_run.py HOST PORT FOLDER  one of two hosts, of two devices
"""

import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + f" --xla_force_host_platform_device_count={2 if sys.argv[1:] else 4}"
)

import device_cases
import keras


def layouts():
    """Kernels of hidden layers and heads are split, teacher's and student's."""
    devices = keras.distribution.DeviceMesh((2, 2), ["batch", "model"])
    layout = keras.distribution.LayoutMap(devices)
    layout[".*(hidden|shrunk_.|head|projection_.)/kernel"] = (None, "model")
    layout[".*embedding/embeddings"] = (None, "model")
    return keras.distribution.ModelParallel(layout_map=layout)


def main():
    for case in device_cases.CASES:
        keras.distribution.set_distribution(None)
        one = device_cases.fitted(device_cases.made(case))
        for distribution in (keras.distribution.DataParallel(), layouts()):
            keras.distribution.set_distribution(distribution)
            several = device_cases.fitted(device_cases.made(case))
            device_cases.compare(case.__name__, one, several)


if __name__ == "__main__":
    main()

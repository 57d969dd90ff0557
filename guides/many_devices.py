"""
Title: Train on many devices
Author: keras_kd developers
Date created: 2026/11/30
Last modified: 2026/11/30
Description: One script on one device and on several, on each backend.
Accelerator: None
"""

"""
## Introduction

A distiller trains on several devices as any Keras model does: the backend's own
way of splitting a batch is enough, and the script hardly changes. What changes
with a *teacher* is how much there is to hold, to compute and to send.

In this guide you will

- train the same student on one device and on several, on the backend that you
  have chosen, and see that it *is* the same student;
- split a teacher that is too large for one device;
- decide between a live teacher on each device, a teacher that is split, and
  predictions that are cached;
- learn which engine does what, and what has been measured.

You should know the guide *Getting started*. Nothing here needs a GPU: all
devices are virtual ones on the CPU. They show that the results are right, not
that training gets faster. It takes about a minute.

```shell
pip install ".[jax,examples]"  # in a clone of the repository
```

Which engine does it:

| | JAX | TensorFlow | PyTorch |
|---|---|---|---|
| a batch over devices | `DataParallel` | `MirroredStrategy` | `torchrun` |
| a model over devices | `ModelParallel` | - | - |
| several hosts | `initialize` | - | `torchrun --nnodes` |
| predictions by many workers | `part=` | `part=` | `part=` |

The names of the first column of engines are in `keras.distribution`, that of
the second in `tf.distribute`. On PyTorch, `keras_kd.distribution.initialize`
joins the processes that `torchrun` starts. `part=` is an argument of
`kd.cache.write`: each worker writes a part of a cache. Any engine that starts
workers will do; `examples/teacher_predictions_with_ray.py` takes Ray.

A dash says that we have not tried it, not that it can't work.
"""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
from keras import layers
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

BACKEND = keras.backend.backend()
# A trial run, under the environment variable KERAS_MAX_EPOCHS=1, is short.
EPOCHS = 2 if keras.config.max_epochs() == 1 else 20
DEVICES = 2 if BACKEND == "torch" else 4

"""
## The script

How many devices a process sees is decided when it starts. So our training is a
script of its own, which we start with one device and with several. Take it as a
template: the part for your backend is all that it needs.

**JAX.** `set_distribution` before any model is built. Each variable is then on
all devices, and each batch is split.

**TensorFlow.** The models are built, and compiled, inside of the strategy's
scope. `fit` may be called inside or outside of it.

**PyTorch.** Keras has no distribution there. `torchrun` starts one process for
each device, and `kd.distribution.initialize()` joins them. Without that call
each process would train a student of its own; `fit` refuses to.

On all three `batch_size` is that of all devices together, so the learning rate
stays as it is.
"""

SCRIPT = """
import contextlib
import json
import os
import sys

import keras
import numpy as np

devices, epochs = int(sys.argv[1]), int(sys.argv[2])
scope = contextlib.nullcontext()

if keras.backend.backend() == "jax":
    import jax

    jax.config.update("jax_num_cpu_devices", devices)  # Virtual ones.
    if devices > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel())

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    virtual = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(cpu, virtual)
    names = [f"CPU:{number}" for number in range(devices)]
    if devices > 1:
        scope = tf.distribute.MirroredStrategy(names).scope()

import keras_kd as kd

if keras.backend.backend() == "torch":
    kd.distribution.initialize()  # Without torchrun, it does nothing.

with np.load("digits.npz") as digits:
    train, test = digits["x"][:1280], digits["x"][1280:1792]
    train_labels, test_labels = digits["y"][:1280], digits["y"][1280:1792]

keras.utils.set_random_seed(0)
with scope:
    teacher = keras.models.load_model("teacher.keras")
    inputs = keras.Input((64,))
    hidden = keras.layers.Dense(16, activation="relu")(inputs)
    hidden = keras.layers.BatchNormalization(
        synchronized=keras.backend.backend() == "tensorflow", name="hidden"
    )(hidden)
    student = keras.Model(inputs, keras.layers.Dense(10)(hidden))
    features = kd.Transfer(
        kd.losses.FeatureMatching(),
        teacher="hidden",
        student="hidden",
        adapter=kd.layers.FeatureAdapter(),
    )
    distiller = kd.Distiller(
        teacher, student, [kd.losses.SoftTargets(4.0), features]
    )
    distiller.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
history = distiller.fit(
    train,
    train_labels,
    batch_size=64,  # So is that of the validation.
    epochs=epochs,
    validation_data=(test, test_labels),
    verbose=0,
)

if os.environ.get("RANK", "0") == "0":  # On PyTorch there are several.
    weights = [weight.tolist() for weight in student.get_weights()]
    print(json.dumps({"history": history.history, "weights": weights}))
"""

pathlib.Path("train.py").write_text(SCRIPT)

"""
## A teacher

It comes from someone who trained it on one device and saved it as a file.
"""

images, labels = load_digits(return_X_y=True)
images = (images / 16.0).astype("float32")
np.savez("digits.npz", x=images, y=labels)

keras.utils.set_random_seed(0)
inputs = keras.Input((64,))
hidden = layers.Dense(256, activation="relu")(inputs)
hidden = layers.BatchNormalization(name="hidden")(hidden)
teacher = keras.Model(inputs, layers.Dense(10)(hidden), name="teacher")
teacher.compile(
    optimizer="adam",
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
teacher.fit(images[:1280], labels[:1280], epochs=EPOCHS, verbose=0)
teacher.save("teacher.keras")

"""
## One device, and several

On PyTorch `torchrun` starts the processes; we call it by the name of its
module, so that it is the one of this Python. On the command line:

```shell
KERAS_BACKEND=jax python train.py 4 20
KERAS_BACKEND=tensorflow python train.py 4 20
KERAS_BACKEND=torch torchrun --standalone --nproc-per-node 2 train.py 2 20
```
"""


def launched(devices):
    """What the script prints when it trains on so many devices."""
    command = [sys.executable]
    if BACKEND == "torch" and devices > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(devices)]
    result = subprocess.run(
        [*command, "train.py", str(devices), str(EPOCHS)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise RuntimeError(result.stderr[-3000:])
    return json.loads(result.stdout.splitlines()[-1])


one, several = launched(1), launched(DEVICES)
difference = max(
    np.abs(np.subtract(a, b)).max()
    for a, b in zip(one["weights"], several["weights"])
)
print(
    f"Test accuracy on one device:   {one['history']['val_accuracy'][-1]:.4f}"
)
print(
    f"Test accuracy on {DEVICES} devices:    "
    f"{several['history']['val_accuracy'][-1]:.4f}"
)
print(f"Largest difference of a weight: {difference:.1e}")

figure = Figure(figsize=(7, 4), layout="constrained")
axes = figure.subplots()
axes.plot(one["history"]["loss"], lw=5, alpha=0.3, label="one device")
axes.plot(several["history"]["loss"], "--", label=f"{DEVICES} devices")
axes.set(xlabel="epoch", ylabel="training loss")
axes.legend(frameon=False)
figure.savefig("many_devices.png", dpi=110)

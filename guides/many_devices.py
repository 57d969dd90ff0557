"""
Title: Train on many devices
Author: keras_kd developers
Date created: 2026/11/30
Last modified: 2026/11/30
Description: One script on one device and on several, on each backend.
Accelerator: None
Needs: pip install ".[jax,quickstart]"
"""

"""
## Introduction

A distiller trains on several devices as any Keras model does: the backend's own
way of splitting a batch is enough, and the script hardly changes. What changes
with a *teacher* is how much there is to hold, to compute and to send.

In this guide you train the same student on one device and on several, and see
that it *is* the same student; split a teacher that is too large for one device;
and decide between a live teacher and cached predictions.

You should know [Getting started](getting_started.ipynb). Nothing here needs a
GPU: all devices are virtual ones on the CPU. They show that the results are
right, not that training gets faster.

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
workers will do; [an example](../examples/teacher_predictions_with_ray.md) takes
Ray. A dash: not tried here.
"""

import json
import os
import pathlib
import subprocess
import sys

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
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

devices, epochs, split = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
scope = contextlib.nullcontext()

if keras.backend.backend() == "jax":
    import jax

    jax.config.update("jax_num_cpu_devices", devices)  # Virtual ones.
    distribution = None
    if split == "batch":
        distribution = keras.distribution.DataParallel()
    if split == "batch and teacher":
        mesh = keras.distribution.DeviceMesh(
            (2, devices // 2), ["batch", "model"]
        )
        layout = keras.distribution.LayoutMap(mesh)
        layout[".*wide/kernel"] = (None, "model")
        layout[".*wide/bias"] = ("model",)
        distribution = keras.distribution.ModelParallel(layout_map=layout)
    keras.distribution.set_distribution(distribution)

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    virtual = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(cpu, virtual)
    names = [f"CPU:{number}" for number in range(devices)]
    if split == "batch":
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
hidden = layers.Dense(256, activation="relu", name="wide")(inputs)
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
KERAS_BACKEND=jax python train.py 4 20 batch
KERAS_BACKEND=tensorflow python train.py 4 20 batch
KERAS_BACKEND=torch torchrun --nproc-per-node 2 train.py 2 20 batch
```
"""


def launched(devices, split):
    """What the script prints when it trains on so many devices."""
    command = [sys.executable]
    if BACKEND == "torch" and devices > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(devices)]
    result = subprocess.run(
        [*command, "train.py", str(devices), str(EPOCHS), split],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise RuntimeError(result.stderr[-3000:])
    return json.loads(result.stdout.splitlines()[-1])


def largest_difference(one, other):
    """Of any weight of two students."""
    pairs = zip(one["weights"], other["weights"])
    return max(np.abs(np.subtract(a, b)).max() for a, b in pairs)


def print_row(text, run):
    accuracy = run["history"]["val_accuracy"][-1]
    difference = largest_difference(one, run)
    print(f"{text:32} {accuracy:8.4f} {difference:20.1e}")


one = launched(1, "nothing")
runs = {f"the batch over {DEVICES} devices": launched(DEVICES, "batch")}
if BACKEND == "jax":
    text = "the batch over 2, the teacher, too"
    runs[text] = launched(4, "batch and teacher")

print(f"{'':35}accuracy   largest difference")
for text, run in {"one device": one, **runs}.items():
    print_row(text, run)

"""
The students are the same: their weights differ by the rounding of sums that are
added up in another order, some 1e-7.

Such a comparison is the best test of one's own script. Make it with few steps,
and with stochastic gradient descent: over hundreds of steps rounding grows, the
faster with Adam, which divides small gradients by small numbers.
"""

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
axes.plot(one["history"]["loss"], lw=5, alpha=0.3, label="one device")
for text, run in runs.items():
    axes.plot(run["history"]["loss"], "--", label=text)
axes.set(xlabel="epoch", ylabel="training loss")
axes.legend(frameon=False)
plt.savefig("many_devices.png", dpi=120)
plt.show()

"""
*Figure: Three curves of the training loss that lie on each other.*

## A teacher that is too large for one device

On JAX a layout says along which axis of the devices each weight is split. The
script above does it with the teacher's first layer with the argument `"batch
and teacher"`; the student stays whole, as it is small. A distiller never puts
such a teacher together: not in a step, not when it saves and not when it
resumes.

On PyTorch it is FSDP, for a teacher that is a PyTorch module of Hugging Face,
timm and others. Each process gathers one layer at a time, while that runs:

```python
from torch.distributed.fsdp import fully_shard

kd.distribution.initialize()
for layer in module.layers:
    fully_shard(layer)
fully_shard(module)
distiller = kd.Distiller(kd.teachers.TorchModule(module), student)
```

A Keras model can't be sharded so on PyTorch. Where it does not fit, cache its
predictions, or use JAX.

## What to know before

::::{tab-set}
:::{tab-item} JAX
Each batch must be divisible by the number of devices: the last one,
too, and those of the validation. Leave out a few samples, or choose a
`batch_size` that fits. On several hosts call `keras.distribution.initialize()`
first. Give `DataParallel(auto_shard_dataset=False)` unless the data is a
`tf.data.Dataset`, and let each host give its own rows, and its share of the
`batch_size`.
:::
:::{tab-item} TensorFlow
Batch normalization takes the statistics of each device's part
of the batch, unless it has `synchronized=True`, as in the script. Else the
student is another one, neither better nor worse. Sample weights that differ
between the parts weigh each part by itself.
:::
:::{tab-item} PyTorch
All processes call `fit`, with the same data, and each computes on
its rows. Outputs and features go to all, so that the loss is the one of the
whole batch, whatever it compares; a loop with `DistributedDataParallel` would
average losses of parts, which is another loss for relations, memories and
weighted means. A `DataLoader` with a `DistributedSampler` is split already:
then `batch_size` is that of one process. The distiller's `save` and
`ModelCheckpoint` write in process 0 alone; for files of your own, look at the
environment variable `RANK`. Two hosts are started by the same command on both:

```shell
torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d \\
    --rdzv-endpoint first-host:29400 --rdzv-id run1 train.py
```
:::
::::

**Everywhere.** Layers that draw random numbers draw others on other devices.
With dropout in the student, one device and several give different students,
which are equally good.

## Live teacher, or cached predictions?

With a teacher of T parameters, a student of S and D tokens a step on n chips,
each chip computes (6 S + 2 T) D / n operations; 6 S D / n with cached
predictions. To add up gradients it sends 2 (n - 1) / n times 4 S bytes, however
many tokens there are. Where the teacher is sharded, (n - 1) / n times 2 T bytes
more. A cache of the 32 most probable tokens (`cache.TopK(32)`) reads 130 or 194
bytes a token.

So for H100s, a teacher of 7 billion, a student of 1 billion and 2^20 tokens a
step, by published figures at 40 % use, computed by
`examples/benchmarks/scaling.py` and *not measured*:

| teacher | chips | compute ms | add up ms | gather ms | chip-s / M tokens |
|---|---|---|---|---|---|
| sharded | 8 | 6626 | 16 | 218 | 52.3 |
| sharded | 64 | 828 | 33 | 58 | 56.1 |
| sharded | 512 | 104 | 35 | 62 | 97.9 |
| whole | 8 | 6626 | 16 | 0 | 50.7 |
| whole | 64 | 828 | 33 | 0 | 52.6 |
| whole | 512 | 104 | 35 | 0 | 67.8 |
| cached | 8 | 1988 | 16 | 0 | 15.3 |
| cached | 64 | 248 | 33 | 0 | 17.2 |
| cached | 512 | 31 | 35 | 0 | 32.4 |

The last column is what a million tokens cost in seconds of one chip. More chips
stop paying where adding up, which does not shrink, takes longer than computing,
which does: here from 512 chips with a cache, 1,024 with a sharded and 2,048
with a whole teacher. Twice the tokens a step allow twice the chips.

- Keep a teacher that fits whole on each chip: 2 bytes a parameter, beside the
  student's 16.
- Shard one that does not, with enough tokens a chip (800 on 8 chips, 1,800 on
  512) that computing takes as long as gathering.
- Cache its predictions as soon as the data is used twice: for a second epoch,
  or another student. It is the cheapest for any number of chips.

The bytes are those that XLA's compiled step sends, within 0.2 %: the script
compiles it for eight virtual devices and counts.

## What was measured

Largest difference of a weight from one device, after a few steps of SGD; each
is held by a test (`tests/test_two_replicas.py`, `test_joined_processes.py`):

| | JAX, 4 devices | JAX, 2 x 2 | JAX, 2 hosts | TensorFlow, 2 | PyTorch, 2 |
|---|---|---|---|---|---|
| soft targets | 6e-8 | 6e-8 | 6e-8 | 6e-8 | 2e-7 |
| features, adapters | 6e-8 | 6e-8 | 6e-8 | 3e-8 | 1e-7 |
| moving average | 8e-9 | 8e-9 | 8e-9 | 2e-9 | 3e-8 |
| mutual learning | 6e-8 | 6e-8 | 6e-8 | 6e-8 | 2e-7 |
| contrastive memory | 1e-6 | 1e-6 | 1e-6 | 6e-8 | 2e-6 |
| rules with state | 2e-7 | 6e-8 | 2e-7 | 6e-8 | 1e-6 |
| chunked head | 2e-7 | 2e-7 | 2e-7 | 4e-9 | 5e-7 |
| a chain, a shrunk student | 6e-8 | 6e-8 | 6e-8 | 6e-8 | - |
| a joined cache | 6e-8 | 6e-8 | 6e-8 | 6e-8 | - |
| quantized, moving ranges | 2e-8 | 3e-8 | 3e-8 | 6e-8 | - |
| without data | 0 | 2e-7 | - | 6e-8 | 3e-8 |
| mixed precision | 6e-5 | 6e-5 | 6e-5 | 6e-5 | 5e-6 |

2 x 2 devices split the batch and the weights. Hosts and PyTorch's devices are
processes of one machine. Mixed precision is bfloat16, and float16 on PyTorch.

Speed-ups need real devices. On PyTorch, two processes on two cores of a CPU
took 0.99 s a step and one took 1.73 s, for a convolutional network on images of
64 x 64. Several GPUs were not at hand.

## Where next

Compare a few steps on one device and on several before a long run. [Caching
teacher predictions](cached_predictions.ipynb) shows how many workers write one
cache.
"""

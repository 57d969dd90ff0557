"""The processes that `torchrun` has started, and how they are joined."""

import atexit
import os

from keras_kd._src.backend import BACKEND

_joined = []  # The `Processes`, once they are joined.


def initialize():
    """Joins the processes of `torchrun` to train one student (data parallel).

    Keras has no distribution on PyTorch. (On JAX and TensorFlow use
    `keras.distribution` and `tf.distribute`.) Call this in a script before it
    builds its models, and start the script once for each device:

        torchrun --nproc-per-node 4 script.py

    Each process computes on the GPU of its number, or on the CPU if there are
    no GPUs. Nothing else in the script changes: `fit`, `evaluate`,
    `train_on_batch` and `test_on_batch` of a distiller train one student.
    `batch_size` is that of all processes together, as in Keras. Each process
    runs teacher and student on its rows of a batch. The outputs, and the
    features that transfers read, are sent to all processes, and each computes
    the loss of the whole batch:

        rows of process r    = part r of N of the batch, sizes differ by 1
        gradient of a weight = mean over processes of N * its rows' gradient

    So the loss equals that of a single process, also where it takes weighted
    means, compares samples with each other, or uses sample banks, rules or
    metrics that keep a state. The student's `BatchNormalization` uses the
    statistics of the whole batch. Only random numbers drawn in the student's
    layers (dropout) differ.

    From each epoch on, all processes have the weights, optimizer and random
    states of process 0. Only process 0 saves (`save`, `save_weights`,
    `export`, and so `ModelCheckpoint`) and logs. All processes get its logs, so
    they stop in the same epoch.

    Give each process the same data (arrays, a `DataLoader`, a `PyDataset`, a
    `tf.data.Dataset` with a seed); the first batches are compared. A
    `DataLoader` whose sampler is a
    `torch.utils.data.distributed.DistributedSampler` is split already: its
    `batch_size` is that of one process, and each process reads only its own
    samples.

    A teacher that is too large for one device can be a PyTorch module, sharded
    by `torch.distributed.fsdp.fully_shard`, in a
    `keras_kd.teachers.TorchModule`; all processes must then call `save`. Keras
    models can't be sharded this way: each process holds the whole student, and
    a whole Keras teacher. `predict` and `diagnose` run in each process by
    itself. Chains and `keras_kd.compare` would write their files in each
    process: run these in a single process.

    Without `torchrun` it does nothing, and the script runs in one process. A
    process group that exists already (`torch.distributed.init_process_group`)
    is used as it is. If this is not called under `torchrun`, `fit` raises an
    error, as each process would train a student of its own.

    Raises:
        ValueError: the backend is not PyTorch, or Keras computes on a kind of
            device between which PyTorch can't exchange tensors.

    Example:
    >>> import keras
    >>> import keras_kd as kd
    >>> if keras.backend.backend() == "torch":
    ...     kd.distribution.initialize()

    Reference: Li et al., 2020, "PyTorch Distributed: Experiences on
    Accelerating Data Parallel Training", arXiv 2006.15704. Radford et al.,
    2021, "Learning Transferable Visual Models From Natural Language
    Supervision", arXiv 2103.00020 (each device's loss uses all outputs).
    """
    if BACKEND != "torch":
        raise ValueError(
            "Processes of `torchrun` are joined on the PyTorch backend. "
            f"Received: the backend {BACKEND!r}. On JAX use "
            "`keras.distribution.set_distribution`, on TensorFlow a "
            "`tf.distribute.Strategy`."
        )
    import torch
    import torch.distributed as dist

    if together() is not None:
        return
    if not _group_is_up():
        if _started() < 2:
            return
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        dist.init_process_group()
        atexit.register(_leave)
    if dist.get_world_size() > 1:
        _check_device()
        from keras_kd._src.distribution.collectives import Processes

        _joined[:] = [Processes()]


def together():
    """The `Processes` that train one student; None for a single process."""
    if _joined and not _group_is_up():
        _joined.clear()
    return _joined[0] if _joined else None


def check_joined():
    """Raises a `ValueError` if each process would train its own student."""
    if BACKEND != "torch" or together() is not None:
        return
    count = _started()
    if _group_is_up():
        import torch.distributed as dist

        count = dist.get_world_size()
    if count > 1:
        raise ValueError(
            "Each process would train a student of its own. Received: "
            f"{count} processes of `torchrun` that were not joined. Call "
            "`keras_kd.distribution.initialize()` at the beginning of the "
            "script, before models are built; for a student in each process, "
            "start them without the environment variable WORLD_SIZE."
        )


def is_writer():
    """Whether this process writes files; only process 0 does."""
    processes = together()
    return processes is None or processes.rank == 0


def _started():
    """How many processes `torchrun` started, by its environment variables."""
    count = os.environ.get("WORLD_SIZE", "1")
    return int(count) if count.isdigit() and "RANK" in os.environ else 1


def _group_is_up():
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()


def _leave():
    import torch.distributed as dist

    _joined.clear()
    if _group_is_up():
        dist.destroy_process_group()


def _check_device():
    from keras import ops

    device = str(ops.zeros(()).device)
    if device.split(":")[0] not in ("cpu", "cuda", "xpu"):
        raise ValueError(
            "Processes exchange tensors on GPUs and CPUs. Received: Keras "
            f"computes on {device!r}. Set KERAS_TORCH_DEVICE=cpu."
        )

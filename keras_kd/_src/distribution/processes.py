"""The processes that `torchrun` has started, and what goes between them."""

import atexit
import os

from keras_kd._src.backend import BACKEND

_joined = []  # The `Processes`, once they have met.


def initialize():
    """Joins the processes of `torchrun` to train one student: data parallel.

    Keras has no distribution on PyTorch. On JAX and TensorFlow use theirs,
    `keras.distribution` and `tf.distribute`. Here a script calls this before
    it builds its models, and is started once for each device:

        torchrun --nproc-per-node 4 script.py

    Each process computes on the GPU of its number (on the CPU without GPUs),
    and nothing else of the script changes: `fit`, `evaluate`, `train_on_batch`
    and `test_on_batch` of a distiller train one student, and `batch_size` is
    that of all processes together, as in Keras. Each process runs teacher and
    student on its rows of a batch. What they give (outputs and the features
    that transfers read) goes to all, and each computes the loss of the whole
    batch:

        rows of process r    = part r of N of the batch, sizes differ by 1
        gradient of a weight = mean over processes of N * its rows' gradient

    So the loss is that of one process whatever it compares: weighted means,
    relations between samples, memories, rules and metrics that keep a state.
    `BatchNormalization` of the student takes the statistics of the whole
    batch. Only random draws of the student's layers (dropout) differ.

    Weights, optimizer and random states are those of process 0 from each
    epoch on, and it alone saves (`save`, `save_weights`, `export`, and thus
    `ModelCheckpoint`) and logs. All see its logs, so that all stop alike.

    Data is the same in each process (arrays, a `DataLoader`, a `PyDataset`, a
    `tf.data.Dataset` with a seed); first batches are compared. A `DataLoader`
    whose sampler is a `torch.utils.data.distributed.DistributedSampler` is
    split already: its `batch_size` is that of one process, and none reads the
    others' samples.

    A teacher that is too large for a device can be a PyTorch module that
    `torch.distributed.fsdp.fully_shard` has sharded, in a
    `keras_kd.teachers.TorchModule`; all processes then call `save`. Keras
    models can't be sharded so: each process holds the student, and a Keras
    teacher, in whole. `predict` and `diagnose` are each process's own. Chains
    and `keras_kd.compare` write their files from each process: run these in
    one.

    Started without `torchrun`, it does nothing: the script is one process. It
    takes a process group of one's own (`torch.distributed.init_process_group`)
    as it is. Without a call of it, `fit` refuses to train a student in each
    process.

    Raises:
        ValueError: the backend is not PyTorch, or Keras computes on a kind of
            device on which PyTorch's processes can't exchange tensors.

    Example:
    >>> import keras
    >>> import keras_kd as kd
    >>> if keras.backend.backend() == "torch":
    ...     kd.distribution.initialize()

    Reference: Li et al., 2020, "PyTorch Distributed: Experiences on
    Accelerating Data Parallel Training", arXiv 2006.15704. Radford et al.,
    2021, "Learning Transferable Visual Models From Natural Language
    Supervision", arXiv 2103.00020 (outputs of all devices in each one's loss).
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
    """The processes that train one student; None for one alone."""
    if _joined and not _group_is_up():
        _joined.clear()
    return _joined[0] if _joined else None


def check_joined():
    """Raises a `ValueError` if each process would train a student alone."""
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
    """Whether files are written by this process: one of several does."""
    processes = together()
    return processes is None or processes.rank == 0


def _started():
    """How many processes there are, by the environment of `torchrun`."""
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

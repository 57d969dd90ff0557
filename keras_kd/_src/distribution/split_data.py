"""Data that is already split among the processes."""

import sys


def split_sampler(data, processes):
    """The `DistributedSampler` of a `DataLoader`, or None.

    Args:
        data: the argument `x` of `fit`.
        processes: the `Processes`.

    Raises:
        ValueError: it splits the data for other processes than these.
    """
    torch = sys.modules["torch"]
    if not isinstance(data, torch.utils.data.DataLoader):
        return None
    from torch.utils.data.distributed import DistributedSampler

    inner = getattr(data.batch_sampler, "sampler", None)
    for sampler in (data.batch_sampler, inner, data.sampler):
        if isinstance(sampler, DistributedSampler):
            found = sampler.rank, sampler.num_replicas
            if found != (processes.rank, processes.count):
                raise ValueError(
                    "A `DistributedSampler` must split the data by these "
                    f"processes. Received: rank={found[0]}, num_replicas="
                    f"{found[1]} in process {processes.rank} of "
                    f"{processes.count}. Leave both arguments out."
                )
            return sampler
    return None


def check_evaluated(sampler):
    """Raises a `ValueError` if some samples would count twice, or never."""
    if sampler is None or sampler.total_size == len(sampler.dataset):
        return
    raise ValueError(
        "Each sample counts once in an evaluation. Received: a "
        f"`DistributedSampler` that gives {sampler.total_size} samples of "
        f"{len(sampler.dataset)}. Give a `DataLoader` without it: each process "
        "computes on its part of each batch all the same."
    )

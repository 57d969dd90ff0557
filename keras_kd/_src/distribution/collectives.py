"""Communication between PyTorch processes; imported only in those."""

import itertools

import torch
import torch.distributed as dist

# How many numbers of the gradients are averaged at a time.
BUCKET = 2**23
# It has another name from PyTorch 2.13 on.
_gather = getattr(dist, "all_gather_single", None)
_gather = _gather or dist.all_gather_into_tensor


class Processes:
    """All processes of a group, seen from one of them.

    Attributes:
        rank: the number of this process.
        count: how many processes there are.
    """

    def __init__(self):
        self.rank = dist.get_rank()
        self.count = dist.get_world_size()
        # Small numbers stay on the host, so as not to wait for a GPU.
        self._host = dist.new_group(backend="gloo")

    def from_each(self, numbers):
        """Each process's list of whole numbers, of the same length."""
        own = torch.tensor(numbers, dtype=torch.int64)
        found = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(found, own, group=self._host)
        return [each.tolist() for each in found]

    def from_first(self, value):
        """An object of process 0, returned in each process."""
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._host)
        return values[0]

    def take_first(self, tensors):
        """Sets tensors to their values in process 0."""
        for tensor in tensors:
            value = tensor.detach().contiguous()
            dist.broadcast(value, src=0)
            tensor.detach().copy_(value)

    def average(self, tensors):
        """Sets tensors to their mean over all processes."""
        for bucket in _buckets(tensors):
            flat = torch.cat([each.detach().reshape(-1) for each in bucket])
            dist.all_reduce(flat)
            flat /= self.count
            sizes = [each.numel() for each in bucket]
            for each, mean in zip(bucket, flat.split(sizes)):
                each.detach().copy_(mean.view_as(each))

    def mean(self, tensor):
        """The mean of a tensor over all processes; without a gradient."""
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total / self.count

    def all_rows(self, tensor, counts):
        """The first rows of each process's tensor, concatenated.

        Args:
            tensor: this process's tensor; it may have more rows than count.
            counts: list of the number of rows that count in each process.
        """
        boolean = tensor.dtype == torch.bool
        own = tensor.detach()[: counts[self.rank]]
        own = own.to(torch.uint8) if boolean else own
        own = _padded(own, max(counts)).contiguous()
        found = own.new_empty((self.count * len(own), *own.shape[1:]))
        _gather(found, own)
        if min(counts) < max(counts):
            parts = found.split(max(counts))
            found = torch.cat([p[:n] for p, n in zip(parts, counts)])
        return found.to(torch.bool) if boolean else found


def _buckets(tensors):
    """Lists of tensors of one type and device that fit into a bucket."""
    kinds = {}
    for each in tensors:
        kinds.setdefault((each.dtype, each.device), []).append(each)
    for kind in kinds.values():
        ends = itertools.accumulate(each.numel() for each in kind)
        pairs = zip(ends, kind)
        for _, bucket in itertools.groupby(pairs, lambda p: p[0] // BUCKET):
            yield [each for _, each in bucket]


def _padded(tensor, rows):
    missing = rows - len(tensor)
    if not missing:
        return tensor
    return torch.cat([tensor, tensor.new_zeros((missing, *tensor.shape[1:]))])


class AllRows(torch.autograd.Function):
    """`Processes.all_rows`, where all processes then compute the same.

    So all have the same gradient for all rows. Each takes its own rows' part,
    times the number of processes, as the gradients of weights are averaged
    afterwards.
    """

    @staticmethod
    def forward(context, tensor, processes, counts):
        context.processes, context.counts = processes, counts
        context.rows = len(tensor)
        return processes.all_rows(tensor, counts)

    @staticmethod
    def backward(context, gradient):
        processes, counts = context.processes, context.counts
        begin = sum(counts[: processes.rank])
        own = gradient[begin : begin + counts[processes.rank]]
        return _padded(own * processes.count, context.rows), None, None


class AllStatistics(torch.autograd.Function):
    """One tensor of each process, stacked, where each then uses its own rows.

    The gradient of a process's tensor is the sum over all processes.
    """

    @staticmethod
    def forward(context, tensor, processes):
        context.processes = processes
        return processes.all_rows(tensor[None], [1] * processes.count)

    @staticmethod
    def backward(context, gradient):
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[context.processes.rank], None

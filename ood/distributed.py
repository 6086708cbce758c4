"""Many processes, one result: means over the global batch, and random draws made for it and sliced by rank.

Every process holds rows rank, rank + N, ... of the global batch. A loss is computed from global means on every process; the
differentiable all-reduce and the averaging of gradients over processes together give exactly the gradient of one process.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, 0 to world_size - 1."""
    return dist.get_rank() if world_size() > 1 else 0


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: object, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum over processes, differentiable; the tensor itself when there is one process."""
    return _AllReduceSum.apply(tensor) if world_size() > 1 else tensor


def global_mean(values: Tensor) -> Tensor:
    """The mean over the global batch of per-sample values, shape (n_local,); n_local may be 0 on some processes."""
    if world_size() == 1:
        return values.mean()
    count = torch.tensor(float(len(values)), device=values.device)
    return all_reduce_sum(values.sum()) / all_reduce_sum(count)


def longest(lengths: Tensor) -> int:
    """The largest number over the global batch, of (n_local,), at least 1; n_local may be 0 on some processes."""
    found = torch.cat([lengths.new_ones(1), lengths]).max()
    if world_size() > 1:
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return int(found)


def rows_of(total: int) -> Tensor:
    """Which rows of a global batch of `total` belong to this process."""
    return torch.arange(min(rank(), total), total, world_size())


class _Shard:
    total: int | None = None
    rows: Tensor | None = None


@contextmanager
def shard(total: int, rows: Tensor) -> Iterator[None]:
    """Within: this process computes `rows` of a global batch of `total` (what dropout must know to draw alike)."""
    _Shard.total, _Shard.rows = total, rows
    try:
        yield
    finally:
        _Shard.total = _Shard.rows = None


@contextmanager
def repeated(times: int) -> Iterator[None]:
    """Within: the batch stands so many times behind itself, and so do its rows."""
    before = _Shard.total, _Shard.rows
    if _Shard.total is not None and _Shard.rows is not None:
        _Shard.rows = torch.cat([_Shard.rows + time * _Shard.total for time in range(times)])
        _Shard.total *= times
    try:
        yield
    finally:
        _Shard.total, _Shard.rows = before


def global_rand(shape: torch.Size, device: torch.device) -> Tensor:
    """Uniform numbers of `shape`, drawn for the global batch and cut to this process's rows."""
    if world_size() == 1 or _Shard.total is None or _Shard.rows is None:
        return torch.rand(shape, device=device)
    return torch.rand((_Shard.total, *shape[1:]), device=device)[_Shard.rows.to(device)]

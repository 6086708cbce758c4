"""Layers that behave the same on one process and on many."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ood.distributed import all_reduce_sum, global_rand, world_size


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose statistics are those of the global batch.

    torch.nn.SyncBatchNorm refuses CPU tensors, and two gloo processes are how this is tested; the arithmetic is BatchNorm2d's.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(x)
        count = torch.tensor(float(x.numel() // x.shape[1]), device=x.device)
        sums = torch.cat([x.sum((0, 2, 3)), count[None]])
        sums = all_reduce_sum(sums)
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = x - mean[None, :, None, None]
        variance = all_reduce_sum(centred.square().sum((0, 2, 3))) / total
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (total / (total - 1)), self.momentum)
        y = centred * torch.rsqrt(variance + self.eps)[None, :, None, None]
        return y if self.weight is None else y * self.weight[None, :, None, None] + self.bias[None, :, None, None]


class Dropout(nn.Module):
    """Dropout with probability `p`, drawn for the global batch."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return x * (global_rand(x.shape, x.device) >= self.p) / (1 - self.p)


def init_convolutions(net: nn.Module, mode: str) -> None:
    """He-normal convolutions ('fan_in' or 'fan_out'), zero linear biases: what the papers' networks start from."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def global_pool(x: Tensor) -> Tensor:
    """Global average pooling, (N, C, H, W) -> (N, C)."""
    return F.adaptive_avg_pool2d(x, 1).flatten(1)

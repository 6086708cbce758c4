"""Layers that behave the same on one process and on many, and those that several networks share."""

from collections.abc import Callable
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from ood.distributed import all_reduce_sum, global_rand, world_size

Kind = TypeVar("Kind", bound=nn.Module)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose statistics are those of the global batch.

    torch.nn.SyncBatchNorm refuses CPU tensors, and two gloo processes are how this is tested; the arithmetic is BatchNorm2d's.
    """

    running_mean: Tensor  # always tracked
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

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
        return x * self.kept(x) / (1 - self.p)

    def kept(self, x: Tensor) -> Tensor:
        """Which entries stay: a tensor that broadcasts to `x`."""
        return global_rand(x.shape, x.device) >= self.p


class Dropout2d(Dropout):
    """Dropout of whole channels."""

    def kept(self, x: Tensor) -> Tensor:
        return global_rand(x.shape[:2], x.device)[:, :, None, None] >= self.p


class DropPath(Dropout):
    """Stochastic depth (Huang et al. 2016): the whole residual branch of a sample."""

    def kept(self, x: Tensor) -> Tensor:
        return global_rand(x.shape[:1], x.device).view(-1, *[1] * (x.ndim - 1)) >= self.p


class SpectralConv2d(nn.Conv2d):
    """A convolution whose operator norm is held at or below `limit`: weight / max(1, sigma / limit).

    sigma is the largest singular value of the convolution itself on maps of the size that it meets (for 1x1 kernels: of the matrix),
    followed by one power iteration per forward pass in training and left alone in eval mode (as in DDU's nets; Gouk et al. 2018).
    """

    limit: float
    direction: Tensor
    padding: tuple[int, ...]  # torch knows the words 'same' and 'valid' too

    @classmethod
    def over(cls, conv: nn.Conv2d, limit: float, size: tuple[int, int]) -> "SpectralConv2d":
        """`conv` with its weights, held, for maps of `size` (height, width)."""
        ours = cls(  # torch types a two-dimensional convolution's sizes as tuples of any length
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=conv.bias is not None  # type: ignore[arg-type]
        )  # fmt: skip
        ours.load_state_dict(conv.state_dict())
        ours.limit = limit
        start = torch.randn(1, conv.in_channels, *(size if conv.kernel_size != (1, 1) else (1, 1)))
        ours.register_buffer("direction", start / start.norm())
        ours.iterate(5)
        return ours

    def sigma(self) -> Tensor:
        """The largest singular value, as far as the direction has found it; differentiable in the weight."""
        return self._grown().norm()

    @torch.no_grad()
    def iterate(self, times: int = 1) -> None:
        """Power iterations: turn the direction towards the one that grows most."""
        for _ in range(times):
            back = conv2d_input(self.direction.shape, self.weight, self._grown(), self.stride, self.padding)
            self.direction.copy_(back / back.norm().clamp(min=1e-12))

    def _grown(self) -> Tensor:
        return F.conv2d(self.direction, self.weight, None, self.stride, self.padding)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # a norm in half precision would be off by a percent
            if self.training:
                self.iterate()
            weight = self.weight / torch.clamp(self.sigma() / self.limit, min=1.0)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def hold_spectral_norms(net: nn.Module, limit: float, size: int) -> nn.Module:
    """Every convolution of `net`, which takes images of `size` pixels, becomes a SpectralConv2d; in place."""
    sizes: dict[str, tuple[int, int]] = {}
    convolutions = {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    hooks = [
        module.register_forward_pre_hook(lambda _module, inputs, name=name: sizes.update({name: tuple(inputs[0].shape[2:])}))
        for name, module in convolutions.items()
    ]
    modes = net.training
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, size, size))
    net.train(modes)
    for hook in hooks:
        hook.remove()
    for name, module in convolutions.items():
        parent, _, last = name.rpartition(".")
        setattr(net.get_submodule(parent), last, SpectralConv2d.over(module, limit, sizes[name]))
    return net


def init_convolutions(net: nn.Module, mode: Literal["fan_in", "fan_out"]) -> None:
    """He-normal convolutions ('fan_in' or 'fan_out'), zero linear biases: what the papers' networks start from.

    Not of a network without memory (device meta), for whose sake torch would load its compiler, in two seconds.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def global_pool(x: Tensor) -> Tensor:
    """Global average pooling, (N, C, H, W) -> (N, C)."""
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def replace(net: nn.Module, kind: type[Kind], make: Callable[[Kind], nn.Module]) -> nn.Module:
    """Every submodule of a kind becomes what `make` says; in place."""
    for name, child in net.named_children():
        if isinstance(child, kind):
            setattr(net, name, make(child))
        else:
            replace(child, kind, make)
    return net

"""What ResNets of every kind share: the basic block, the shortcut without weights, what their options change."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from ood.nets.layers import hold_spectral_norms, init_convolutions, replace


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016), its parts called as torchvision calls them.

    torchvision's own would do, but to import it takes two seconds, half of what a detector of digits takes to give its first answer.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, downsample: nn.Module | None, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), norm(outputs)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        aside = x if self.downsample is None else self.downsample(x)
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + aside)


class AverageShortcut(nn.Module):
    """The shortcut without weights: average pooling, new channels are zero (DDU, the parent of the L2 paper's nets)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.extra, self.stride = outputs - inputs, stride

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, self.stride, self.stride) if self.stride > 1 else x
        return F.pad(x, (0, 0, 0, 0, 0, self.extra))


def shaped(net: nn.Module, *, size: int, spectral: float | None, slope: float, shortcut: str) -> nn.Module:
    """A net of residual blocks, freshly initialised, with what its options change; in place."""
    if shortcut == "average":
        for module in net.modules():
            found = getattr(module, "downsample", None)  # so torchvision's blocks call it, too
            if isinstance(found, nn.Sequential) and isinstance(found[0], nn.Conv2d):
                module.downsample = AverageShortcut(found[0].in_channels, found[0].out_channels, found[0].stride[0])
    if slope:
        replace(net, nn.ReLU, lambda _relu: nn.LeakyReLU(slope, inplace=True))
    init_convolutions(net, mode="fan_out")
    return hold_spectral_norms(net, spectral, size) if spectral else net

"""DenseNet-BC (Huang et al. 2017) for small images, as the Unleashing Mask paper trains it.

densenet_bc_100_12 ("DenseNet-101" there) has 745,174 parameters for 10 classes with non-affine batch normalisation, 342 features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ood.nets.layers import BatchNorm2d, Dropout, global_pool, init_convolutions


class Bottleneck(nn.Module):
    """BN-ReLU-conv1 to 4 x growth, BN-ReLU-conv3 to growth; the result is appended to the input."""

    def __init__(self, inputs: int, growth: int, dropout: float, affine: bool):
        super().__init__()
        self.bn1 = BatchNorm2d(inputs, affine=affine)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.bn2 = BatchNorm2d(4 * growth, affine=affine)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(self.conv1(F.relu(self.bn1(x))))
        y = self.dropout(self.conv2(F.relu(self.bn2(y))))
        return torch.cat([x, y], dim=1)


class Transition(nn.Module):
    """BN-ReLU-conv1 to half the channels, then 2x2 average pooling."""

    def __init__(self, inputs: int, outputs: int, dropout: float, affine: bool):
        super().__init__()
        self.bn = BatchNorm2d(inputs, affine=affine)
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.dropout(self.conv(F.relu(self.bn(x)))), 2)


class DenseNet(nn.Module):
    """Three dense blocks of (depth - 4) / 6 bottlenecks with two transitions between them."""

    def __init__(self, depth: int, growth: int, dropout: float, affine: bool):
        super().__init__()
        layers: list[nn.Module] = []
        channels = 2 * growth
        self.stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        for block in range(3):
            for _ in range((depth - 4) // 6):
                layers.append(Bottleneck(channels, growth, dropout, affine))
                channels += growth
            if block < 2:
                layers.append(Transition(channels, channels // 2, dropout, affine))
                channels //= 2
        self.blocks = nn.Sequential(*layers)
        self.bn = BatchNorm2d(channels, affine=affine)
        self.width = channels
        init_convolutions(self, mode="fan_in")

    def forward(self, x: Tensor) -> Tensor:
        return global_pool(F.relu(self.bn(self.blocks(self.stem(x)))))


def backbone(depth: int, growth: int, *, size: int, dropout: float, affine: bool) -> tuple[nn.Module, int]:
    """The network without its head, and its number of features."""
    net = DenseNet(depth, growth, dropout, affine)
    return net, net.width

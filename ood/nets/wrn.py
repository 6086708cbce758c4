"""Wide residual networks: pre-activation basic blocks (Zagoruyko and Komodakis 2016), as the OE paper trains them.

wrn_40_2 has 2,243,546 parameters for 10 classes.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from ood.nets.layers import BatchNorm2d, Dropout, global_pool, init_convolutions


class Block(nn.Module):
    """BN-ReLU-conv3, BN-ReLU-dropout-conv3; where the shape changes, the shortcut is a 1x1 convolution of the activated input."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float, affine: bool):
        super().__init__()
        self.bn1 = BatchNorm2d(inputs, affine=affine)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = BatchNorm2d(outputs, affine=affine)
        self.dropout = Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, padding=1, bias=False)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        y = self.conv2(self.dropout(F.relu(self.bn2(self.conv1(activated)))))
        return y + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """Three stages of widths 16k, 32k, 64k; the second and third halve the resolution."""

    def __init__(self, depth: int, widen: int, dropout: float, affine: bool):
        super().__init__()
        blocks = (depth - 4) // 6
        widths = [16 * widen, 32 * widen, 64 * widen]
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        stages, inputs = [], 16
        for stage, outputs in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(Block(inputs, outputs, stride, dropout, affine))
                inputs = outputs
        self.blocks = nn.Sequential(*stages)
        self.bn = BatchNorm2d(inputs, affine=affine)
        init_convolutions(self, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        return global_pool(F.relu(self.bn(self.blocks(self.stem(x)))))


def backbone(depth: int, widen: int, *, size: int, dropout: float, affine: bool) -> tuple[nn.Module, int]:
    """The network without its head, and its number of features."""
    return WideResNet(depth, widen, dropout, affine), 64 * widen

"""The all-convolutional network of the Outlier Exposure paper, after Springenberg et al. 2015.

allconv has 1,409,674 parameters for 10 classes, 192 features. For 64 pixels it pools once more and uses ReLU, as the paper's
Tiny ImageNet net does.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from ood.nets.layers import BatchNorm2d, Dropout, global_pool

WIDTHS = (96, 192)


class Gelu(nn.Module):
    """x sigmoid(1.702 x), the paper's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1.702 * x).sigmoid()


class AllConv(nn.Module):
    """Two stages of three 3x3 convolutions, each followed by max-pooling and dropout; one without padding, two of 1x1 with padding 1."""

    def __init__(self, size: int, dropout: float, affine: bool):
        super().__init__()
        activation = Gelu if size == 32 else nn.ReLU
        layers: list[nn.Module] = []

        def convolution(inputs: int, outputs: int, kernel: int, padding: int) -> None:
            layers.extend([nn.Conv2d(inputs, outputs, kernel, padding=padding), BatchNorm2d(outputs, affine=affine), activation()])

        inputs = 3
        for width in WIDTHS:
            for _ in range(3):
                convolution(inputs, width, 3, 1)
                inputs = width
            layers.extend([nn.MaxPool2d(2), Dropout(dropout)])
        if size == 64:
            layers.append(nn.AvgPool2d(2))
        convolution(inputs, inputs, 3, 0)
        convolution(inputs, inputs, 1, 1)
        convolution(inputs, inputs, 1, 1)
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.layers(x)
        # 6 -> 8 -> 10 pixels: the paper's pooling of 8 sees the upper left 8x8 of them, and so does this.
        return global_pool(F.avg_pool2d(maps, 8))


def backbone(*, size: int, dropout: float, affine: bool) -> tuple[nn.Module, int]:
    """The network without its head, and its number of features."""
    return AllConv(size, dropout, affine), WIDTHS[-1]

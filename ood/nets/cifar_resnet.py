"""The ResNets for CIFAR (He et al. 2016, section 4.2): small, for images from 8 pixels; like resnet18 they end in the ReLU of a sum.

resnet_20_1 has 269,722 parameters for 10 classes with average shortcuts, which have no weights; nor have the paper's (its option A, which
takes every second pixel instead).
"""

from functools import partial

from torch import Tensor, nn

from ood.nets.layers import BatchNorm2d, global_pool
from ood.nets.residual import BasicBlock, shaped


class CifarResNet(nn.Module):
    """Three stages of widths 16k, 32k, 64k behind a 3x3 stem; the second and third halve the resolution.

    Like torchvision's ResNet it takes a 1x1 convolution as shortcut where the shape changes; `shaped` puts others there.
    """

    def __init__(self, depth: int, widen: int, affine: bool):
        super().__init__()
        norm = partial(BatchNorm2d, affine=affine)
        blocks, inputs = (depth - 2) // 6, 16 * widen
        self.conv1 = nn.Conv2d(3, inputs, 3, padding=1, bias=False)
        self.bn1, self.relu = norm(inputs), nn.ReLU(inplace=True)
        stages = []
        for outputs in (16 * widen, 32 * widen, 64 * widen):
            for _ in range(blocks):
                stride, downsample = 1, None
                if inputs != outputs:
                    stride = 2
                    downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))
                stages.append(BasicBlock(inputs, outputs, stride, downsample, norm))
                inputs = outputs
        self.blocks = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        return global_pool(self.blocks(self.relu(self.bn1(self.conv1(x)))))


def backbone(
    depth: int, widen: int, *, size: int, affine: bool, spectral: float | None, slope: float, shortcut: str
) -> tuple[nn.Module, int]:
    """The network without its head, and its number of features."""
    return shaped(CifarResNet(depth, widen, affine), size=size, spectral=spectral, slope=slope, shortcut=shortcut), 64 * widen

"""ResNet-18, -34, -50 (He et al. 2016), torchvision's, with the changes that small images and the L2 paper ask for.

resnet18 has 11,173,962 parameters for 10 classes with the small stem.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from ood.nets.layers import BatchNorm2d, hold_spectral_norms, init_convolutions, replace

LAYERS = {18: (BasicBlock, [2, 2, 2, 2]), 34: (BasicBlock, [3, 4, 6, 3]), 50: (Bottleneck, [3, 4, 6, 3])}


class AverageShortcut(nn.Module):
    """The shortcut without weights: average pooling, new channels are zero (DDU, the parent of the L2 paper's nets)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.extra, self.stride = outputs - inputs, stride

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, self.stride, self.stride) if self.stride > 1 else x
        return F.pad(x, (0, 0, 0, 0, 0, self.extra))


def backbone(
    depth: int, *, size: int, affine: bool, stem: str, spectral: float | None, slope: float, shortcut: str
) -> tuple[nn.Module, int]:
    """The network without its head, and its number of features: 512, or 2048 for resnet50."""
    block, layers = LAYERS[depth]
    net = ResNet(block, layers, norm_layer=partial(BatchNorm2d, affine=affine))
    width = net.fc.in_features
    net.fc = nn.Identity()
    if stem == "small":
        net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return shaped(net, size=size, spectral=spectral, slope=slope, shortcut=shortcut), width


def shaped(net: nn.Module, *, size: int, spectral: float | None, slope: float, shortcut: str) -> nn.Module:
    """A net of torchvision's blocks, freshly initialised, with what its options change; in place."""
    if shortcut == "average":
        for module in net.modules():
            if isinstance(module, BasicBlock | Bottleneck) and module.downsample is not None:
                convolution = module.downsample[0]
                module.downsample = AverageShortcut(convolution.in_channels, convolution.out_channels, convolution.stride[0])
    if slope:
        replace(net, nn.ReLU, lambda _relu: nn.LeakyReLU(slope, inplace=True))
    init_convolutions(net, mode="fan_out")
    return hold_spectral_norms(net, spectral, size) if spectral else net

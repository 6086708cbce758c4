"""ResNet-18, -34, -50 (He et al. 2016), torchvision's, with the changes that small images and the L2 paper ask for.

resnet18 has 11,173,962 parameters for 10 classes with the small stem.
"""

from functools import partial

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from ood.nets.layers import BatchNorm2d
from ood.nets.residual import shaped

LAYERS = {18: (BasicBlock, [2, 2, 2, 2]), 34: (BasicBlock, [3, 4, 6, 3]), 50: (Bottleneck, [3, 4, 6, 3])}


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

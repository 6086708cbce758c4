"""ConvNeXt-T (Liu et al. 2022), torchvision's: 27,827,818 parameters for 10 classes, 768 features."""

from torch import Tensor, nn
from torchvision.models import convnext_tiny
from torchvision.ops import StochasticDepth

from ood.nets.layers import DropPath, replace


class ConvNeXt(nn.Module):
    """Convolutions, global average and the layer norm in front of the head."""

    def __init__(self, drop_path: float):
        super().__init__()
        net = convnext_tiny(stochastic_depth_prob=drop_path)
        self.layers, self.pool, self.norm = net.features, net.avgpool, nn.Sequential(*net.classifier[:2])
        replace(self.layers, StochasticDepth, lambda depth: DropPath(depth.p))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.pool(self.layers(x)))


def backbone(*, size: int, drop_path: float) -> tuple[nn.Module, int]:
    """The network without its head, and its number of features."""
    return ConvNeXt(drop_path), 768

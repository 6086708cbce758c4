"""VGG-16 (Simonyan and Zisserman 2015) with batch normalisation and one linear layer, torchvision's convolutions.

vgg16 has 14,728,266 parameters for 10 classes, 512 features.
"""

from functools import partial

from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from ood.nets.layers import BatchNorm2d, global_pool, hold_spectral_norms, init_convolutions, replace


class VGG(nn.Module):
    """Thirteen convolutions in five stages, each stage ending in a max-pooling; then a global average."""

    def __init__(self, affine: bool, slope: float):
        super().__init__()
        self.layers = make_layers(cfgs["D"], batch_norm=True)
        replace(self.layers, nn.BatchNorm2d, lambda norm: partial(BatchNorm2d, affine=affine)(norm.num_features))
        if slope:
            replace(self.layers, nn.ReLU, lambda _relu: nn.LeakyReLU(slope, inplace=True))
        init_convolutions(self, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        return global_pool(self.layers(x))


def backbone(*, size: int, affine: bool, spectral: float | None, slope: float) -> tuple[nn.Module, int]:
    """The network without its head, and its 512 features."""
    net = VGG(affine, slope)
    return (hold_spectral_norms(net, spectral, size) if spectral else net), 512

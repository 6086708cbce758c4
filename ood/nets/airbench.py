"""A net for CPUs and hurry, after K. Jordan's airbench ("94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024).

Few, wide convolutions on maps that are halved before anything costs: a fixed whitening layer of 2x2 patches, three blocks of two 3x3
convolutions, each pooled after its first. Ours and not the paper's: batch normalisation has scale and shift with one learning rate for all,
and the head has a bias. The last pooling is over whatever is left (3x3 of 32 pixels), so features are maxima of GELUs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ood.nets.layers import BatchNorm2d

PATCH = 2
SMALLEST = 5e-4  # added to the patches' variances, in normalised units: below it there is noise


class Whitening(nn.Module):
    """A convolution whose outputs, on the images it has seen, are uncorrelated and of variance one: principal components of patches, and
    their negatives. Not learned, but for a bias; before it has seen any image, the patches' pixels as they are.
    """

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        values = 3 * PATCH**2
        pixels = torch.eye(values).view(values, 3, PATCH, PATCH)
        self.register_buffer("weight", torch.cat([pixels, -pixels]))
        self.bias = nn.Parameter(torch.zeros(2 * values))

    @torch.no_grad()
    def see(self, images: Tensor) -> None:
        """Take the components from normalised images (N, 3, H, W)."""
        patches = F.unfold(images.double(), PATCH).transpose(1, 2).flatten(0, 1)
        variances, components = torch.linalg.eigh(patches.T @ patches / len(patches))
        whitened = (components / (variances + SMALLEST).sqrt()).T.flip(0)
        kernels = whitened.reshape(-1, 3, PATCH, PATCH)
        self.weight.copy_(torch.cat([kernels, -kernels]))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias)


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    first, second = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
    for convolution in (first, second):
        if not convolution.weight.is_meta:
            nn.init.dirac_(convolution.weight[: convolution.in_channels].detach())  # what comes in goes on; the paper's start
    return [first, nn.MaxPool2d(2), BatchNorm2d(outputs), nn.GELU(), second, BatchNorm2d(outputs), nn.GELU()]


class Airbench(nn.Module):
    """Whitening, GELU, three blocks, the largest value of each channel."""

    def __init__(self, widths: tuple[int, int, int]):
        super().__init__()
        self.whitening = Whitening()
        inputs = len(self.whitening.bias)
        layers: list[nn.Module] = [nn.GELU()]
        for outputs in widths:
            layers += _block(inputs, outputs)
            inputs = outputs
        self.layers = nn.Sequential(*layers)

    def see(self, images: Tensor) -> None:
        """See Whitening."""
        self.whitening.see(images)

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_max_pool2d(self.layers(self.whitening(x)), 1).flatten(1)


def backbone(*widths: int, size: int) -> tuple[nn.Module, int]:
    """The network without its head, and its number of features."""
    first, second, third = widths
    return Airbench((first, second, third)), third

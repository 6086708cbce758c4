"""The image chain (ood.data.chain) as tensor operations that an ONNX graph can hold, equal to it pixel by pixel.

Pillow resizes in two passes, first along rows, then along columns, with weights rounded to 22 binary places, and rounds to eight bits after
each (its libImaging/Resample.c). Sums of such weights times bytes are exact in double precision, so the same numbers come out of matrix
products.
"""

import torch
from torch import Tensor, nn

from ood.config.data import Chain

PRECISION = 2.0**22
SUPPORT = {"area": 0.5, "bilinear": 1.0, "bicubic": 2.0}  # half the width of each filter, in pixels of the smaller image
LUMA = (19595, 38470, 7471)  # of 65536: how Pillow weighs red, green and blue


def _filtered(kind: str, x: Tensor) -> Tensor:
    """Pillow's filters, at x pixels from their middle."""
    if kind == "area":
        return ((x > -0.5) & (x <= 0.5)).double()
    x = x.abs()
    if kind == "bilinear":
        return (1 - x).clamp(min=0)
    a = -0.5
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def weights(kind: str, places: Tensor, start: Tensor, length: Tensor, size: int) -> Tensor:
    """What each input pixel counts for each output pixel, (size, N), as whole numbers of 1 / PRECISION.

    Args:
        places: 0 to N - 1, float64 (N,). start, length: of the part that is resized, in input pixels, float64 scalars.
    """
    scale = length / size
    stretch = scale.clamp(min=1.0)
    support = SUPPORT[kind] * stretch
    centres = start + (torch.arange(size, dtype=torch.float64, device=places.device) + 0.5) * scale
    first = torch.trunc(centres - support + 0.5).clamp(min=0)[:, None]
    last = torch.minimum(torch.trunc(centres + support + 0.5), places[-1] + 1)[:, None]
    inside = (places >= first) & (places < last)
    raw = torch.where(inside, _filtered(kind, (places - centres[:, None] + 0.5) / stretch), 0.0)
    shares = raw / raw.sum(1, keepdim=True)
    return torch.trunc(shares * PRECISION + torch.where(shares < 0, -0.5, 0.5))


def _rounded(sums: Tensor) -> Tensor:
    """Sums of weights times bytes, as bytes."""
    return torch.floor((sums + PRECISION / 2) / PRECISION).clamp(0, 255)


class Preprocess(nn.Module):
    """Decoded RGB pictures, uint8 (N, H, W, 3), all of one size -> what a network looks at, float32 (N, 3, side, side) in [0, 1]."""

    def __init__(self, chain: Chain):
        super().__init__()
        self.chain = chain

    def forward(self, pictures: Tensor) -> Tensor:
        chain, height, width = self.chain, pictures.shape[1], pictures.shape[2]
        pixels = pictures.double().permute(0, 3, 1, 2)
        if chain.grey:
            red, green, blue = (pixels[:, i : i + 1] * weight for i, weight in enumerate(LUMA))
            pixels = torch.floor((red + green + blue + 32768) / 65536)
        rows, columns = (torch.arange(n, dtype=torch.float64, device=pixels.device) for n in (height, width))
        short = torch.minimum(rows[-1], columns[-1]) + 1
        part = short * (chain.size / (chain.short or chain.size))
        pixels = self._cut(pixels, rows, columns, part, chain.size, chain.resize)
        steps = (chain.levels or 256) - 1
        pixels = torch.round(torch.round(pixels / 255 * steps) * (255 / steps))
        if chain.upsize and chain.upsize != chain.size:
            places = torch.arange(chain.size, dtype=torch.float64, device=pixels.device)
            pixels = self._cut(pixels, places, places, places[-1] + 1, chain.upsize, "bilinear")
        return (pixels / 255).float().expand(-1, 3, -1, -1)

    @staticmethod
    def _cut(pixels: Tensor, rows: Tensor, columns: Tensor, part: Tensor, size: int, kind: str) -> Tensor:
        """The middle square of `part` pixels, resized to `size`."""
        for places, across in ((columns, True), (rows, False)):
            # Pillow takes its box in single precision.
            start = ((places[-1] + 1 - part) / 2).float()
            length = ((places[-1] + 1 - part) / 2 + part).float() - start
            matrix = weights(kind, places, start.double(), length.double(), size)
            pixels = _rounded(pixels @ matrix.T if across else matrix @ pixels)
        return pixels

"""From the benchmark's images to the pipeline's. The way back is the image chain's, as for every other picture."""

import torch
import torch.nn.functional as F
from torch import Tensor


def enlarge(images: Tensor, size: int) -> Tensor:
    """uint8 (N, 3, H, W) -> uint8 (N, 3, size, size).

    By whole factors pixels are repeated, which the image chain's area filter undoes exactly: so nothing but the diffusion model's own
    traces tells what comes back from what went in. Else bicubic, antialiased where it shrinks.
    """
    if size % images.shape[-1] == 0:
        factor = size // images.shape[-1]
        return images.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    return F.interpolate(images.float(), (size, size), mode="bicubic", antialias=True).round().clamp(0, 255).to(torch.uint8)


def to_signed(images: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1], what an autoencoder takes."""
    return images.float() / 127.5 - 1

"""Synthetic noise by the Outlier Exposure paper's evaluation code: defined in [-1, 1], stored as uint8.

A grey chain keeps the first of the three generated channels (averaging them would change the distribution).
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from ood.config.data import Noise
from ood.data.chain import ImageChain
from ood.data.items import ItemSet, outliers
from ood.errors import InputError

PATIENCE = 50  # tries per wanted image before the setting counts as hopeless
CANVAS = 32  # blobs are drawn on at least this canvas and cut from its middle, away from the blur's border effects


def load(source: Noise, chain: ImageChain, rng: np.random.Generator) -> ItemSet:
    """`source.count` noise images, all within [-1, 1] before they become uint8."""
    blur = source.blur or 0.0  # blobs have one, and nothing else does
    draw = {
        "gaussian": lambda rng, size: gaussian(rng, size, source.spread or 0.5),
        "rademacher": rademacher,
        "uniform": uniform,
        "blobs": lambda rng, size: blobs(rng, size, blur),
    }[source.kind]
    scale, shift = (np.array(0.5), np.array(0.5))
    if source.space == "input":  # what the net's normalisation takes back to these values
        scale, shift = (np.array(part[: chain.channels]) for part in (chain.config.std, chain.config.mean))
    images: list[np.ndarray] = []
    for _ in range(source.count * PATIENCE):
        if len(images) == source.count:
            break
        values = draw(rng, chain.config.size)[..., : chain.channels]
        if (values > -1).any():  # a window of blobs can be all background: a black image shows nothing
            images.append(chain.quantise(shift + scale * values))
    else:
        raise InputError(f"blobs with blur {source.blur} are almost all background. Lower blur (the paper: 1.5 pixels).")
    names = [f"noise/{source.kind}/{i}" for i in range(source.count)]
    return outliers(images, names, [(name,) for name in names])


def gaussian(rng: np.random.Generator, size: int, spread: float = 0.5) -> np.ndarray:
    """N(0, spread^2), clipped to [-1, 1]; shape (size, size, 3)."""
    return np.clip(rng.normal(0, spread, (size, size, 3)), -1, 1)


def rademacher(rng: np.random.Generator, size: int) -> np.ndarray:
    """-1 or 1 with equal chances; shape (size, size, 3)."""
    return rng.choice([-1.0, 1.0], (size, size, 3))


def uniform(rng: np.random.Generator, size: int) -> np.ndarray:
    """U(-1, 1); shape (size, size, 3)."""
    return rng.uniform(-1, 1, (size, size, 3))


def blobs(rng: np.random.Generator, size: int, blur: float) -> np.ndarray:
    """Bernoulli(0.7) pixels, blurred over height, width and channels, values below 0.75 set to 0, then times 2 minus 1."""
    canvas = max(CANVAS, size)
    pixels = (rng.random((canvas, canvas, 3)) < 0.7).astype(float)
    smooth = gaussian_filter(pixels, sigma=blur, mode="nearest", truncate=4.0)
    smooth[smooth < 0.75] = 0
    edge = (canvas - size) // 2
    return smooth[edge : edge + size, edge : edge + size] * 2 - 1

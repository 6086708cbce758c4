"""Pictures with structure at every scale and no meaning: fractals of random iterated function systems, to mix training images with.

PixMix's authors collected theirs, and feature visualisations; these are drawn from a seed instead, so that nothing need be fetched.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHAINS, STEPS, SETTLE = 2000, 60, 15  # of the chaos game: points at once, their moves, and the first ones that aren't drawn
FEWEST = 0.2  # share of pixels that a fractal covers; emptier ones are drawn again
LARGEST = 128  # pixels along a side: of so many points no larger picture is full; whoever wants one resizes it


@cache
def fractals(count: int, side: int, seed: int = 0) -> Tensor:
    """`count` pictures, uint8 (count, 3, side, side) of at most LARGEST pixels; the same for the same arguments."""
    side = min(side, LARGEST)
    rng = np.random.default_rng([seed, side])
    return torch.from_numpy(np.stack([_fractal(side, rng) for _ in range(count)])).permute(0, 3, 1, 2).contiguous()


def _fractal(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One picture (side, side, 3): a coloured attractor on a ground of another colour."""
    while True:
        places, colours = _attractor(rng)
        picture, covered = _drawn(places, colours, rng.random(3), side)
        if covered >= FEWEST:
            return picture


def _attractor(rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Points (N, 2) of an iterated function system of contracting affine maps, and their colours (N, 3), blended from those of the maps."""
    maps = int(rng.integers(2, 6))
    turn, back = (_rotations(rng.uniform(0, 2 * np.pi, maps)) for _ in range(2))
    large = rng.uniform(0.4, 0.9, maps)
    stretch = np.stack([large, large * rng.uniform(0.3, 1.0, maps) * rng.choice([-1, 1], maps)], axis=1)
    linear = turn * stretch[:, None] @ back
    shift, hues = rng.uniform(-1, 1, (maps, 2)), rng.random((maps, 3))
    odds = np.abs(np.linalg.det(linear)) + 0.05
    which = rng.choice(maps, (STEPS, CHAINS), p=odds / odds.sum())
    point, colour, places, colours = rng.uniform(-1, 1, (CHAINS, 2)), rng.random((CHAINS, 3)), [], []
    for step in range(STEPS):
        chosen = which[step]
        point = np.einsum("nij,nj->ni", linear[chosen], point) + shift[chosen]
        colour = (colour + hues[chosen]) / 2
        if step >= SETTLE:
            places.append(point)
            colours.append(colour)
    return np.concatenate(places), np.concatenate(colours)


def _rotations(angles: NDArray) -> NDArray:
    """Matrices (N, 2, 2)."""
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, -sin], axis=1), np.stack([sin, cos], axis=1)], axis=1)


def _drawn(places: NDArray, colours: NDArray, ground: NDArray, side: int) -> tuple[NDArray[np.uint8], float]:
    """Points as a picture, brighter where there are more of them, and the share of pixels that hold any."""
    low, high = np.quantile(places, [0.01, 0.99], axis=0)
    cells = ((places - low) / np.maximum(high - low, 1e-9) * side).astype(np.int64)
    inside = ((cells >= 0) & (cells < side)).all(1)
    index = cells[inside, 0] * side + cells[inside, 1]
    hits = np.bincount(index, minlength=side**2).astype(float)
    mean = np.stack([np.bincount(index, colours[inside, c], side**2) for c in range(3)], axis=1) / np.maximum(hits, 1)[:, None]
    light = (np.log1p(hits) / np.log1p(hits.max(initial=1)))[:, None]
    picture = np.clip(255 * (light * mean + (1 - light) * ground), 0, 255).round().astype(np.uint8)
    return picture.reshape(side, side, 3), float((hits > 0).mean())

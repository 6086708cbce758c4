"""The one image chain of a benchmark: every image of every role goes through it (see config.data.Chain)."""

import numpy as np
from PIL import Image

from ood.config.data import Chain
from ood.data.reading import eight_bit

FILTERS = {"area": Image.Resampling.BOX, "bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resized(image: Image.Image, size: int, kind: Image.Resampling, box: tuple[float, float, float, float]) -> Image.Image:
    """A part of a picture, resized to `size` pixels a side, antialiased.

    Pillow's box makes crop and resize one step, without rounding the crop to whole pixels. Two calls, along rows first, then along columns:
    in one, which comes first is Pillow's choice, another in another version, and so are some of the rounded values.

    Args:
        box: left, top, right, bottom in the picture's pixels.
    """
    left, top, right, bottom = box
    narrow = image.resize((size, image.height), kind, box=(left, 0, right, image.height))
    return narrow.resize((size, size), kind, box=(0, top, size, bottom))


class ImageChain:
    """Applies a Chain in two steps: `native` (one image, to its true resolution) and `finish` (a set, to the network's size)."""

    def __init__(self, config: Chain):
        self.config = config
        self.channels = 1 if config.grey else 3

    def native(self, image: Image.Image | np.ndarray, box: tuple[float, float, float, float] | None = None) -> np.ndarray:
        """One picture of any size and mode -> uint8 (size, size, channels).

        Args:
            box: the part to take (left, top, right, bottom in its pixels); null: the middle, as the chain says.
        """
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        image = eight_bit(image, self.config.white).convert("L" if self.config.grey else "RGB")
        size, (width, height) = self.config.size, image.size
        if box is None and ((width, height) != (size, size) or self.config.short):
            share = size / (self.config.short or size)
            short = min(width, height) * share
            left, top = (width - short) / 2, (height - short) / 2
            box = (left, top, left + short, top + short)
        if box is not None:
            image = resized(image, size, FILTERS[self.config.resize], box)
        array = np.asarray(image, dtype=np.uint8).reshape(size, size, self.channels)
        return self.quantise(array / 255.0)

    def quantise(self, values: np.ndarray) -> np.ndarray:
        """Values in [0, 1] -> uint8 with the chain's number of levels."""
        steps = (self.config.levels or 256) - 1
        levels = np.rint(np.clip(values, 0, 1) * steps)
        return np.rint(levels * (255 / steps)).astype(np.uint8)

    def finish(self, images: np.ndarray) -> np.ndarray:
        """Native images (N, size, size, channels) -> uint8 (N, side, side, 3)."""
        if self.config.upsize and self.config.upsize != self.config.size:
            side, whole = self.config.upsize, (0.0, 0.0, float(self.config.size), float(self.config.size))
            pictures = (Image.fromarray(image.squeeze(-1) if self.channels == 1 else image) for image in images)
            enlarged = (np.asarray(resized(picture, side, Image.Resampling.BILINEAR, whole)) for picture in pictures)
            images = np.stack([image.reshape(side, side, self.channels) for image in enlarged])
        return np.ascontiguousarray(np.broadcast_to(images, (*images.shape[:3], 3)))

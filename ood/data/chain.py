"""The one image chain of a benchmark: every image of every role goes through it (see config.data.Chain)."""

import numpy as np
from PIL import Image

from ood.config.data import Chain
from ood.data.reading import eight_bit

FILTERS = {"area": Image.Resampling.BOX, "bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


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
            # Pillow's box makes crop and antialiased resize one step, without rounding the crop to whole pixels.
            image = image.resize((size, size), FILTERS[self.config.resize], box=box)
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
            target = (self.config.upsize, self.config.upsize)
            images = np.stack(
                [
                    np.asarray(
                        Image.fromarray(image.squeeze(-1) if self.channels == 1 else image).resize(target, Image.Resampling.BILINEAR)
                    ).reshape(*target, self.channels)
                    for image in images
                ]
            )
        return np.ascontiguousarray(np.broadcast_to(images, (*images.shape[:3], 3)))

"""What a picture's file says beside the picture: its size, how it is encoded, the camera."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ood.data.reading import UnreadableError, formats, shown

MAKE, MODEL, ORIENTATION = 271, 272, 274  # of EXIF
COMMON = 12  # cameras that are told apart; the others are one


@dataclass(frozen=True)
class File:
    """width, height: pixels as they are to be looked at (EXIF's turn done). quality: mean of JPEG's luminance table, 0 without one."""

    width: int
    height: int
    size: int
    kind: str
    mode: str
    camera: str
    quality: float

    @property
    def short(self) -> int:
        """Pixels along the short side."""
        return min(self.width, self.height)


def read(path: Path) -> File:
    """The facts of a picture's file; nothing is decoded.

    Raises:
        UnreadableError: it is no picture, or what it says of itself can't be read.
    """
    try:
        return _read(path)
    except Exception as error:  # damaged files make Pillow raise anything
        said = str(error).split("<_io.")[0].strip() or type(error).__name__
        raise UnreadableError(f"{shown(str(path))}: what the file says of itself can't be read ({said}).") from None


def _read(path: Path) -> File:
    with Image.open(path, formats=formats()) as picture:
        exif = picture.getexif()
        width, height = picture.size
        if exif.get(ORIENTATION, 1) in (5, 6, 7, 8):
            width, height = height, width
        tables = getattr(picture, "quantization", None) or {}
        quality = float(np.mean(tables[0])) if 0 in tables else 0.0
        camera = shown(" ".join(str(exif[tag]).strip(" \0") for tag in (MAKE, MODEL) if tag in exif)) or "none named"
        return File(width, height, path.stat().st_size, str(picture.format), picture.mode, camera, quality)


def columns(found: list[File]) -> dict[str, NDArray]:
    """The facts as numbers, one array (N,) each: what a classifier could tell classes by without looking at a picture.

    Bytes a pixel are no such fact: blurred things take fewer.
    """
    cameras, counts = np.unique([file.camera for file in found], return_counts=True)
    common = [str(name) for name in cameras[np.argsort(-counts, kind="stable")][:COMMON]]
    numbers: dict[str, list[float] | list[int] | list[bool]] = {
        "width": [file.width for file in found],
        "height": [file.height for file in found],
        "aspect": [file.width / file.height for file in found],
        "JPEG quality": [file.quality for file in found],
    }
    numbers |= {f"mode {name}": [file.mode == name for file in found] for name in sorted({file.mode for file in found})}
    numbers |= {f"encoding {name}": [file.kind == name for file in found] for name in sorted({file.kind for file in found})}
    numbers |= {f"camera {name}": [file.camera == name for file in found] for name in common}
    return {name: np.array(values, np.float64) for name, values in numbers.items() if len(set(values)) > 1}

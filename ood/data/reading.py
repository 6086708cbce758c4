"""From a picture's file to its pixels: upright, eight bits a channel, opaque; one rule for every kind of file (docs/data.md)."""

import io
import os
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ood.errors import InputError

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "DIB", "TIFF", "WEBP", "GIF", "JPEG2000", "AVIF", "TGA")
Image.MAX_IMAGE_PIXELS = None  # a limit of our own, with the file's name: Pillow's is a warning for one size and another error for the next


class UnreadableError(InputError):
    """One file that can't be read as a picture."""


@cache
def formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow reads."""
    Image.init()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


@cache
def suffixes() -> frozenset[str]:
    """How names of pictures end, in small letters, as far as this Pillow reads them."""
    kinds = {*formats(), "MPO"}  # several JPEGs in one file
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in kinds)


def shown(name: str) -> str:
    """A file's name for people, tables and pictures: valid Unicode on one line; bytes that are no UTF-8 and control characters escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def read_bytes(path: Path) -> bytes:
    """A picture's file.

    Raises:
        UnreadableError: it can't be read.
    """
    try:
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        raise UnreadableError(f"{shown(str(path))}: {_reason(error)}") from None


def read_image(path: Path, most: int | None = None, white: float | None = None, content: bytes | None = None) -> Image.Image:
    """A picture as its camera held it, of an animation the first; mode L or RGB.

    Args:
        most: pixels above which it isn't decoded; None: no limit.
        white: see eight_bit.
        content: the file's, where it has been read already.

    Raises:
        UnreadableError: it isn't there, isn't a picture, is too large, or its values don't say what is white.
    """
    try:
        with Image.open(io.BytesIO(read_bytes(path) if content is None else content), formats=formats()) as file:
            if most is not None and file.width * file.height > most:
                raise _WrongError(
                    f"has {file.width} x {file.height} pixels, and data.max_pixels allows {most:,}. Replace or remove the file."
                )
            file.load()
            return eight_bit(ImageOps.exif_transpose(file), white)
    except UnreadableError:
        raise
    except _WrongError as error:
        reason = str(error)
    except (
        Exception,
        MemoryError,
    ) as error:  # damaged files make Pillow raise anything: OSError, ValueError, SyntaxError, struct.error, ...
        reason = _reason(error)
    raise UnreadableError(f"{shown(str(path))}: {reason}")


def _reason(error: BaseException) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error).split("<_io.")[0].strip()
    return f"cannot be read as an image ({said or type(error).__name__}). Replace or remove the file."


class _WrongError(InputError):
    """What is wrong with a picture whose file's name is known elsewhere."""


def eight_bit(image: Image.Image, white: float | None = None) -> Image.Image:
    """Mode L or RGB. Transparency is put on white (Pillow would show what lies under it), CMYK and YCbCr become RGB.

    Args:
        white: the value that is white in pictures of more than eight bits; None: 65535 in those of 16, unknown in those of 32 and floats.

    Raises:
        InputError: what is white can't be known, or values lie outside 0 to white; a LAB picture.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        return _scaled(image, white)
    if image.mode in ("LAB", "HSV"):
        raise _WrongError(f"is kept in {image.mode}, which is not converted here. Save it as RGB.")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def _scaled(image: Image.Image, white: float | None) -> Image.Image:
    """More than eight bits, grey: 0 to white becomes 0 to 255."""
    values = np.asarray(image)
    sixteen = image.mode.startswith("I;16")
    low, high = float(values.min()), float(values.max())
    if white is None and not sixteen:
        bits = "floating-point values" if image.mode == "F" else "32 bits"
        raise _WrongError(
            f"has {bits}, here from {low:g} to {high:g}, and nothing says which is white. Set data.chain.white, or save 8 bits."
        )
    if white is None and 255 < high < 4096:  # what 12-bit cameras and scanners write
        raise _WrongError(
            f"has 16 bits, of which it uses 12 or fewer (up to {high:g}). Set data.chain.white (4095 for 12 bits), or save 8."
        )
    top = 65535 if white is None else white
    if not (low >= 0 and high <= top):
        raise _WrongError(f"has values from {low:g} to {high:g}; data.chain.white says 0 to {top:g}. Correct that, or save 8 bits.")
    if white is None:
        return Image.fromarray((values.astype(np.int64) >> 8).astype(np.uint8))  # as PNG's readers do
    return Image.fromarray(np.rint(values.astype(np.float64) * (255 / top)).astype(np.uint8))

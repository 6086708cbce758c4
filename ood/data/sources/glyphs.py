"""Characters rendered from the fonts that matplotlib ships, drawn the way the digits were: a bitmap, counted in 4x4 blocks.

A character that can be read as a digit is ID in disguise, so it is refused in every role: by number value, by a list of
look-alikes, and by comparing its raster with those of 0 to 9 in the same font.
"""

import hashlib
import importlib.util
import unicodedata
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

from ood.config.data import Glyphs
from ood.data.chain import ImageChain
from ood.data.items import ItemSet, outliers
from ood.errors import InputError

# Characters that are read as 0, 1, ... 9; accents are stripped before the look-up.
READS_AS_DIGIT = frozenset("OoQDΟοОоσØøЮ○●◯°օѲѳθΘ∅⊙ʘⵔIil|!jJıΙιІіӀǀוℓ∣ZzΖЗзƷʒЭэε∃ȜЧчSsЅѕ§$ՏbGбЬьƃ⁊⅂BΒβВß&ƁȢȣgqϱρƍə│ɩƧƨƻƼƽ")
LOOKED_AT = "0123456789OQDIlZSBbGgq"  # whose rasters no character may resemble
# Capitals of other scripts that are drawn like a Latin letter: one shape, whatever the code point.
HOMOGLYPHS = dict(zip("ΑΕΗΚΜΝΡΤΥΧАЕНКМРСТУХгαеіусхр", "aehkmnptyxaehkmpctyxraeiycxp", strict=True))
UNSAID = {"LATIN", "GREEK", "CYRILLIC", "CAPITAL", "SMALL", "LETTER", "SIGN", "SYMBOL"}  # parts of names that tell no shape
LOOKS_LIKE = 0.9  # intersection over union of two rasters above which they show the same thing


def load(source: Glyphs, chain: ImageChain, rng: np.random.Generator) -> ItemSet:
    """`source.count` images, spread evenly over characters and fonts, each rotated by a random angle."""
    pairs = [(character, font) for font in source.fonts for character in source.characters]
    canvas = 4 * chain.config.size
    images, names, keys, words = [], [], [], []
    for index in range(source.count):
        character, font = pairs[index % len(pairs)]
        angle = rng.uniform(-source.rotation, source.rotation)
        images.append(chain.native(_render(character, font, canvas, angle)))
        names.append(f"glyph/{font}/{character}/{index // len(pairs)}")
        raster = hashlib.sha256(_render(character, font, canvas, 0.0).tobytes()).hexdigest()[:32]
        words.append(word_of(character))
        keys.append((f"glyph:{shape_of(character)}", f"font:{family_of(font)}", f"raster:{raster}"))
    return replace(outliers(images, names, keys), words=words)


def word_of(character: str) -> str:
    """What a caption calls a character, in one word: its Unicode name without script, case and kind ('omega', 'leftwardsarrow')."""
    parts = unicodedata.name(character, f"U{ord(character):X}").replace("-", " ").split()
    return "".join(part for part in parts if part not in UNSAID).lower() or character


def check_words(source: Glyphs, key: str) -> None:
    """Refuse two characters that a caption would call the same.

    Raises:
        InputError: naming the key and both characters.
    """
    owner: dict[str, str] = {}
    for character in source.characters:
        other = owner.setdefault(word_of(character), character)
        if other != character:
            raise InputError(
                f"{key}.characters: captions would call {other!r} and {character!r} {word_of(character)!r}. Take one of them out."
            )


def check(source: Glyphs, key: str) -> None:
    """Refuse unknown fonts, characters that a font lacks, and everything that reads as a digit.

    Raises:
        InputError: naming the key, the character and the reason.
    """
    for font in source.fonts:
        lacking = [c for c in source.characters if ord(c) not in _characters(font_path(font, key))]
        if lacking:
            raise InputError(f"{key}.characters: the font {font} has no {lacking[0]!r}. Take it out, or the font.")
    for character in source.characters:
        reason = _digit_reason(character, source.fonts)
        if reason:
            raise InputError(f"{key}.characters: {character!r} {reason}; digits are only ID and near-OOD. Take it out.")


def shape_of(character: str) -> str:
    """What a character looks like, across case, accents and scripts: 'É', 'e' and Cyrillic 'Е' are one shape."""
    base = unicodedata.normalize("NFKD", character)[0]
    return (HOMOGLYPHS.get(base) or HOMOGLYPHS.get(base.upper()) or base).casefold()


def family_of(font: str) -> str:
    """The family of a font file's stem: all cuts of one design."""
    return next((name for name in ("DejaVu", "STIX") if font.startswith(name)), "Computer Modern")


@cache
def font_path(font: str, key: str = "fonts") -> Path:
    """The file of a font by its stem, e.g. 'DejaVuSans-Bold'."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None  # a dependency,
    assert spec.submodule_search_locations  # and a package
    folder = Path(spec.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"
    fonts = {path.stem: path for path in folder.glob("*.ttf")}
    if font not in fonts:
        known = ", ".join(sorted(stem for stem in fonts if stem.startswith(("DejaVu", "cm", "STIXGeneral"))))
        raise InputError(f"{key}.fonts: matplotlib ships no font {font[:80]!r}. Known: {known}.")
    return fonts[font]


def _digit_reason(character: str, fonts: list[str]) -> str | None:
    decomposed = unicodedata.normalize("NFKD", character)
    if unicodedata.numeric(character, None) is not None or any(c.isdigit() for c in decomposed):
        return "is a form of a number"
    if {character, decomposed[0]} & READS_AS_DIGIT:
        return "reads as a digit"
    for font in fonts:
        if _outline(character, font) is None:
            return f"leaves no ink in {font}"
        ours = _render(character, font, 32, 0.0) > 0
        for digit in LOOKED_AT:
            theirs = _render(digit, font, 32, 0.0) > 0
            # Mirrored or upside down, a digit (and S, Z) is still read as one by a net that sees eight pixels.
            turned = [theirs, theirs[:, ::-1], theirs[::-1, ::-1]] if digit in "0123456789SZ" else [theirs]
            if any((ours & t).sum() / (ours | t).sum() > LOOKS_LIKE for t in turned):
                return f"is drawn like {digit} in {font}"
    return None


@cache
def _characters(path: Path) -> frozenset[int]:
    with TTFont(path, lazy=True) as font:
        return frozenset(font.getBestCmap() or ())


@cache
def _outline(character: str, font: str) -> Image.Image | None:
    """The character's ink, large, cropped to its bounding box; None if there is none."""
    face = ImageFont.truetype(str(font_path(font)), 160)
    image = Image.new("L", (400, 400), 0)
    ImageDraw.Draw(image).text((120, 80), character, fill=255, font=face)
    box = image.getbbox()
    return image.crop(box) if box else None


def _render(character: str, font: str, canvas: int, angle: float) -> np.ndarray:
    """White on black, as tall as the canvas (as wide where it is wider than tall); uint8 0 or 255."""
    ink = _outline(character, font)
    assert ink is not None  # `check` refuses what leaves none
    if angle:
        ink = ink.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        ink = ink.crop(ink.getbbox())
    scale = canvas / max(ink.size)
    width, height = (max(1, round(side * scale)) for side in ink.size)
    page = Image.new("L", (canvas, canvas), 0)
    page.paste(ink.resize((width, height), Image.Resampling.BOX), ((canvas - width) // 2, (canvas - height) // 2))
    return np.where(np.asarray(page) >= 128, 255, 0).astype(np.uint8)

"""What all pictures share: matplotlib's backend and looks, colours of the groups, equal bytes for equal pictures."""

from functools import cache
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from ood.files import atomically

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # the backend must be chosen first

__all__ = ["BESIDE", "COLOURS", "notice", "plt", "save", "short"]

COLOURS = {"validation": "#7a7a7a", "near": "#c1440e", "far": "#1f5fa8", "id": "#2f7d4f"}
BESIDE = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}  # a legend that covers no curve
plt.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.titlesize": 10,
        "legend.frameon": False,
    }
)


def notice(path: Path, text: str) -> None:
    """A line of words where a picture would be."""
    figure = plt.figure(figsize=(6, 0.5))
    figure.text(0.02, 0.4, text)
    save(figure, path)


def short(name: str, length: int) -> str:
    """A name in at most so many characters."""
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


@cache
def _characters(font: str) -> frozenset[int]:
    """What a font's file can draw; nothing of one that can't be read."""
    try:
        return frozenset(FT2Font(font).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def _legible(figure: Figure) -> None:
    """Draw every character with a font that has it, of those installed here; one that none has becomes its number, U+732B, not a box.

    And no name as markup: a class may be called $\\frac$. An axis writes its own numbers so.
    """
    standard = _characters(findfont(FontProperties()))
    for text in figure.findobj(Text):
        said = text.get_text()
        if said and not said.startswith("$\\mathdefault{"):
            text.set_parse_math(False)
        lacking = {ord(c) for c in said if not c.isspace()} - standard
        if not lacking:
            continue
        families = list(FontProperties().get_family())
        for font in sorted(fontManager.ttflist, key=lambda font: (font.name, font.fname)):
            if not font.name.startswith("Last Resort") and lacking & _characters(font.fname):  # that one draws every character as a box
                families.append(font.name)
                lacking -= _characters(font.fname)
        text.set_fontfamily(families)
        text.set_text("".join(f"U+{ord(c):04X}" if ord(c) in lacking else c for c in said))


def save(figure: Figure, path: Path) -> None:
    """Write a figure and close it."""
    _legible(figure)
    # Without the version of matplotlib in the file, equal pictures are equal bytes.
    atomically(path, lambda target: figure.savefig(target, dpi=110, format="png", metadata={"Software": None}))
    plt.close(figure)

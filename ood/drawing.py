"""What all pictures share: matplotlib's backend and looks, colours of the groups, equal bytes for equal pictures."""

import io
import re
import warnings
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter

from ood.files import atomically

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # the backend must be chosen first

__all__ = ["BESIDE", "COLOURS", "INK", "notice", "plt", "save", "short", "svg"]

COLOURS = {"validation": "#7a7a7a", "near": "#d55e00", "far": "#0072b2", "id": "#009e73"}  # told apart by the colour-blind (Okabe and Ito)
INK = "#1b1b1b"
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
        "svg.fonttype": "none",  # words stay words: they can be searched, read aloud, and are small
        "svg.hashsalt": "atypical",
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    }
)
SVG = "http://www.w3.org/2000/svg"
LINK = "{http://www.w3.org/1999/xlink}href"
ElementTree.register_namespace("", SVG)


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


def _literal(figure: Figure) -> list[Text]:
    """A figure's texts, none of which is read as markup: a class may be called $\\frac$. But an axis writes its own numbers so."""
    texts = figure.findobj(Text)
    axes = [axis for one in figure.get_axes() for axis in (one.xaxis, one.yaxis)]
    numbers = {
        id(text)
        for axis in axes
        if not isinstance(axis.get_major_formatter(), FixedFormatter)
        for text in axis.get_ticklabels(which="both")
    }
    for text in texts:
        text.set_parse_math(id(text) in numbers)
    return texts


def _legible(figure: Figure) -> None:
    """Draw every character with a font that has it, of those installed here; one that none has becomes its number, U+732B, not a box."""
    standard = _characters(findfont(FontProperties()))
    for text in _literal(figure):
        said = text.get_text()
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


def svg(figure: Figure, key: str) -> str:
    """A figure as an SVG element to stand in a page, closed after that.

    Its colours are the page's, which may be light or dark: `var(--near)`, `var(--ink)`. Its words are in the page's font.

    Args:
        key: of the figure on its page; its marks' names begin with it, for no two elements of a page may share one.
    """
    _literal(figure)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # here; who looks at the page has other fonts
        figure.savefig(stream, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    width = figure.get_figwidth()
    plt.close(figure)
    root = ElementTree.fromstring(stream.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):  # the latter would hold for the whole page
                parent.remove(child)
    referred = {match for element in root.iter() for value in element.attrib.values() for match in re.findall(r"#([\w-]+)", value)}
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name == "id" and value not in referred:
                del element.attrib[name]
            elif name == "id":
                element.attrib[name] = f"{key}-{value}"
            elif name == LINK:
                del element.attrib[name]
                element.attrib["href"] = f"#{key}-{value[1:]}"
            else:
                element.attrib[name] = _for_a_page(name, value, key)
    for name in ("width", "height", "version"):
        del root.attrib[name]
    root.attrib |= {"style": f"width: {width:g}in", "aria-hidden": "true"}
    return ElementTree.tostring(root, encoding="unicode")


def _for_a_page(name: str, value: str, key: str) -> str:
    """An attribute of an SVG element: with the page's colours and font, and no digits that nobody sees."""
    if name == "style":
        value = re.sub(r"font-family: [^;]*;? ?", "", value)
        for meaning, colour in {**COLOURS, "ink": INK}.items():
            value = value.replace(colour, f"var(--{meaning})")
    if name in ("d", "x", "y", "transform", "width", "height", "points"):
        value = re.sub(r"-?\d+\.\d+", lambda match: f"{float(match[0]):.1f}".removesuffix(".0"), value)
    return re.sub(r"url\(#([\w-]+)\)", rf"url(#{key}-\1)", value)

"""The page's figures, in one style: narrow enough for a phone, each quantity in the same colour and dashes everywhere."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from ood.drawing import COLOURS, INK, plt, short, svg
from ood.evaluation.groups import group_of
from ood.report.blocks import Figure

WIDTH, HEIGHT = 4.4, 2.7  # inches
DASHES = {"id": "-", "near": "-", "far": "--", "validation": ":"}  # for who can't tell the colours
Spans = Sequence[tuple[str, tuple[float, float, float]]]
Curve = tuple[str, NDArray, NDArray]  # label, x, y
TITLES = {"validation": "validation OOD", "near": "near-OOD", "far": "far-OOD", "id": "ID"}


def spans(key: str, group: str, rows: Spans, quantity: str, drawn: str) -> Figure:
    """A line for each name: a mean and its interval. rows: name, (mean, low, high) as fractions. drawn: what the interval is."""
    figure, axes = plt.subplots(figsize=(WIDTH, 0.21 * len(rows) + 0.6))
    places = np.arange(len(rows))[::-1]
    for place, (_, (mean, low, high)) in zip(places, rows, strict=True):
        axes.plot([low, high], [place, place], color=COLOURS[group], lw=2.2, alpha=0.4, solid_capstyle="butt")
        axes.plot(mean, place, "o" if group == "near" else "s", color=COLOURS[group], ms=4.5)
    names = [short(name, 30) for name, _ in rows]
    axes.set_yticks(places, names)
    axes.set_xlabel(f"{quantity}, {TITLES[group]}")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=""))
    axes.grid(axis="x", alpha=0.25)
    best = max(rows, key=lambda row: row[1][0])
    alt = f"{quantity} of {len(rows)} models on {TITLES[group]} with intervals; the largest is {best[0]}'s, {100 * best[1][0]:.1f}"
    title = TITLES[group][0].upper() + TITLES[group][1:]
    caption = f"{title}: mean over seeds{drawn and '; line: '}{drawn}."
    return _done(figure, key, alt, caption, left=0.25 + 0.068 * max(map(len, names)))


def roc(key: str, model: str, rows: Sequence[Mapping[str, str]]) -> Figure:
    """ROC of a model's own score. model: its name and AUROC. rows: of metrics/plots/roc.csv, the model's."""
    figure, axes = plt.subplots(figsize=(WIDTH * 0.75, HEIGHT))
    axes.plot([0, 1], [0, 1], color=INK, lw=0.6, alpha=0.5)
    for group in _groups(rows):
        x, y = _columns(rows, group, "false positive rate", "true positive rate")
        axes.plot(x, y, DASHES[group], color=COLOURS[group], label=TITLES[group])
    axes.set(xlabel="ID flagged", ylabel="OOD caught", xlim=(0, 1), ylim=(0, 1.02))
    _in_percent(axes)
    axes.legend(fontsize=8, loc="lower right")
    return _done(figure, key, f"ROC curves of {model}: share of OOD caught against share of ID flagged", "ROC")


def histogram(key: str, model: str, score: str, rows: Sequence[Mapping[str, str]]) -> Figure:
    """Histograms of a model's own score. rows: of metrics/plots/histograms.csv, the model's."""
    figure, axes = plt.subplots(figsize=(WIDTH * 0.75, HEIGHT))
    groups = dict.fromkeys(row["group"] for row in rows)
    tested = "ID test" in groups
    for group in groups:
        kind = "id" if group.startswith("ID") else group
        if kind not in COLOURS or (tested and group in ("ID val", "validation")):
            continue
        x, y = _columns(rows, group, "score", "share")
        axes.step(x, y, DASHES[kind], where="mid", color=COLOURS[kind], label=group if kind == "id" else TITLES[kind])
        axes.fill_between(x, y, step="mid", color=COLOURS[kind], alpha=0.15, lw=0)
    axes.set(xlabel=f"{score}, larger is stranger", ylabel="share")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(fontsize=8)
    return _done(figure, key, f"Histograms of {model}'s {score} on ID and OOD", "Histograms of the own score, all seeds")


def epochs(
    key: str, title: str, curves: Mapping[str, NDArray], places: NDArray, lines: Mapping[str, float], quantity: str, percent: bool = False
) -> Figure:
    """A quantity over epochs: mean and range over seeds; in percent, or on a logarithmic axis.

    Args:
        curves: label -> (seeds, epochs). lines: up to two, label -> epoch.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT))
    for (label, values), dashes in zip(curves.items(), cycle(("-", "--", ":", "-."))):
        kind = label if label in COLOURS else "id"
        axes.plot(places, values.mean(0), DASHES.get(label, dashes), color=COLOURS[kind], label=TITLES.get(label, label))
        axes.fill_between(places, values.min(0), values.max(0), color=COLOURS[kind], alpha=0.15, lw=0)
    for epoch, dashes in zip(lines.values(), ("-", ":"), strict=False):
        axes.axvline(epoch, color=INK, lw=0.9, ls=dashes)
    marked = "".join(f"; {kind}: epoch {at:.0f}, {label}" for (label, at), kind in zip(lines.items(), ("line", "dotted"), strict=False))
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    elif (everything := np.concatenate([values.ravel() for values in curves.values()])).min() > 0:
        axes.set_yscale("log")
        wide = everything.max() > 100 * everything.min()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="epoch", ylabel=quantity)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(curves) > 1:
        axes.legend(fontsize=8)
    return _done(figure, key, f"{title}: {quantity} over {len(places)} epochs{marked}", f"{title}{marked}", left=0.85)


def rates(key: str, title: str, quantities: tuple[str, str], curves: Sequence[Curve], colours: Sequence[str], mark: float) -> Figure:
    """Shares against shares, rates on a logarithmic axis. mark: the detector's own rate."""
    figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT))
    for (label, x, y), colour, dashes in zip(curves, colours, ("-", "--", ":", "-."), strict=False):
        known = colour in COLOURS
        axes.plot(x, y, dashes, marker="o" if known else "", ms=3, color=COLOURS.get(colour, INK), lw=1 if known else 0.7, label=label)
    axes.axvline(mark, color=INK, lw=0.7, ls=":")
    axes.set_xscale("log")
    ticks = [tick for tick in (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if any(x.min() <= tick <= x.max() for _, x, _ in curves)]
    axes.set_xticks(ticks)
    axes.minorticks_off()
    axes.set(xlabel=quantities[0], ylabel=quantities[1])
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return _done(figure, key, f"{title}: {quantities[1]} against {quantities[0]}", title)


def nearness(key: str, title: str, kinds: Mapping[str, tuple[NDArray, NDArray]], said: tuple[str, str]) -> Figure:
    """Points of two kinds, each a mark of its own; kinds: label -> x, y."""
    figure, axes = plt.subplots(figsize=(WIDTH, WIDTH * 0.85))
    for (label, (x, y)), mark, kind in zip(kinds.items(), "oX", ("id", "near"), strict=False):
        axes.scatter(x, y, s=14, marker=mark, alpha=0.55 if mark == "o" else 0.8, color=COLOURS[kind], linewidths=0, label=label)
    axes.set(xlabel=said[0], ylabel=said[1])
    axes.legend(fontsize=8, loc="best")
    return _done(figure, key, f"{title}: {said[1]} against {said[0]}", title)


def _groups(rows: Sequence[Mapping[str, str]]) -> list[str]:
    found = {group_of(row["group"]) for row in rows}
    return [group for group in ("near", "far", "validation") if group in found]


def _columns(rows: Sequence[Mapping[str, str]], group: str, x: str, y: str) -> tuple[NDArray, NDArray]:
    found = np.array([(float(row[x]), float(row[y])) for row in rows if row["group"] == group])
    return found[:, 0], found[:, 1]


def _in_percent(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _done(figure: Drawn, key: str, alt: str, caption: str, left: float = 0.7) -> Figure:
    """With margins in inches: measuring the words, in a font that the page may not have, would take half of the time."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(left=left / width, right=1 - 0.22 / width, bottom=0.46 / height, top=1 - 0.08 / height)
    return Figure(svg(figure, key), alt, caption)

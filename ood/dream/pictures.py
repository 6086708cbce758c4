"""Pictures of DREAM-OOD: what the pipeline knows, where it dreams, what it dreamed."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from ood.drawing import COLOURS, plt, save, short

SHOWN_CLASSES = 20  # rows of a sheet; of more classes an even choice is shown


def sheet_of_prompts(path: Path, images: NDArray, agreed: NDArray, words: list[str]) -> None:
    """What the pipeline paints for every class's plain prompt, a row per class; framed where the encoder sees another class.

    Args:
        images: uint8 (classes x count, 3, H, W), class by class. agreed: (classes x count,) bool.
    """
    count = len(images) // len(words)
    columns, chosen = min(count, 16), np.linspace(0, len(words) - 1, min(SHOWN_CLASSES, len(words))).astype(int)
    picked = [label * count + i for label in chosen for i in range(columns)]
    words = [words[label] for label in chosen]
    count = columns
    figure, axes = plt.subplots(len(words), count, figsize=(0.5 * count + 1.4, 0.52 * len(words) + 0.4), squeeze=False)
    for i, axis in zip(picked, axes.flat, strict=True):
        axis.imshow(images[i].transpose(1, 2, 0))
        _bare(axis, None if agreed[i] else COLOURS["near"])
    for axis, word in zip(axes[:, 0], words, strict=True):
        axis.set_ylabel(word, rotation=0, ha="right", va="center")
    figure.subplots_adjust(left=1.3 / (0.5 * count + 1.4), right=0.99, top=0.99, bottom=0.01, wspace=0.06, hspace=0.06)
    save(figure, path)


def sheet_of_dreams(path: Path, images: NDArray, rows: list[dict], classes: list[str], columns: int = 16) -> None:
    """Dreamed images, a row per class, from those the judge is least sure of (left) to those it takes for ID (right).

    Args:
        images: uint8 (N, H, W, 3). rows: the manifest's, with class, confidence and predicted.
    """
    classes = [classes[i] for i in np.linspace(0, len(classes) - 1, min(SHOWN_CLASSES, len(classes))).astype(int)]
    width, height, names = 0.62 * columns + 1.4, 0.95 * len(classes) + 0.5, 1.3  # inches
    figure, axes = plt.subplots(len(classes), columns, figsize=(width, height), squeeze=False)
    confidence = np.array([row["confidence"] for row in rows])
    for line, name in zip(axes, classes, strict=True):
        members = np.array([i for i, row in enumerate(rows) if row["class"] == name])
        ranked = members[np.argsort(confidence[members], kind="stable")]
        for axis in line:
            axis.set_axis_off()
        for axis, place in zip(line, np.linspace(0, len(ranked) - 1, min(columns, len(ranked))).astype(int), strict=False):
            axis.imshow(images[ranked[place]])
            row = rows[ranked[place]]
            seen = f"{short(row['predicted'], 10)}\n{row['confidence']:.2f}"
            axis.set_title(seen, loc="center", fontsize=7, fontweight="normal", pad=2)
        line[0].text(-0.15, 0.5, short(name, 16), transform=line[0].transAxes, ha="right", va="center")
    figure.suptitle(
        "Dreamed for each class; what the judge sees in it and how sure it is", x=0.01, ha="left", fontsize=10, fontweight="bold"
    )
    figure.subplots_adjust(left=names / width, right=0.99, top=1 - 0.6 / height, bottom=0.01, wspace=0.08, hspace=0.5)
    save(figure, path)


def map_of_embeddings(
    path: Path, features: NDArray, labels: NDArray, anchors: NDArray, drawn: list, classes: list[str], mode: str, shown: int = 60
) -> None:
    """Left: features, anchors, boundary points and drawn embeddings in the plane of the anchors' two principal directions.
    Right: how near each lies to its class's anchor and to the nearest other one (cosines).

    Args:
        drawn: per class an ood.dream.sampling.Drawn. shown: drawn embeddings per class.
    """
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    table = anchors / np.linalg.norm(anchors, axis=1, keepdims=True)
    plane = np.linalg.svd(table - table.mean(0))[2][:2].T
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5.2), width_ratios=[1.15, 1])
    colours = plt.get_cmap("tab10" if len(classes) <= 10 else "turbo")
    for label, name in enumerate(classes):
        colour = colours(label if len(classes) <= 10 else label / len(classes))
        vectors = drawn[label].vectors.numpy()[:shown]
        own, vectors = unit[labels == label], vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        edge = own[drawn[label].boundary.numpy()] if mode == "outlier" else own[:0]
        for axis, project in ((left, lambda x: x @ plane), (right, lambda x, y=label: nearness(x, table, y))):
            groups = ((own, "o", 6, 0.5), (edge, "o", 22, 1.0), (vectors, "x", 18, 0.6), (table[[label]], "*", 160, 1.0))
            for order, (points, marker, size, alpha) in enumerate(groups):  # no class's features above another's anchor
                if len(points):
                    style: dict[str, Any] = {"color": colour}
                    if points is edge:
                        style = {"facecolors": "none", "edgecolors": colour}
                    elif marker == "*":
                        style = {"facecolors": colour, "edgecolors": "black"}
                    where = project(points).round(4)  # a processor's last bits aren't to be seen
                    axis.scatter(where[:, 0], where[:, 1], s=size, marker=marker, alpha=alpha, linewidths=0.9, zorder=2 + order, **style)
        left.annotate(name, table[label] @ plane, xytext=(6, 6), textcoords="offset points", fontsize=9, zorder=6)
    left.set(title="Features, anchors and drawn embeddings", xlabel="first principal direction of the anchors", ylabel="second")
    right.set(title="How near to the class, how near to another", xlabel="cosine to the class's anchor", ylabel="largest cosine to another")
    marks = {"feature": "o", f"{mode} embedding": "x", "anchor (class word)": "*"}
    handles = [Line2D([], [], color="black", marker=m, ls="", label=text, ms=9 if m == "*" else 5) for text, m in marks.items()]
    if mode == "outlier":
        handles.insert(1, Line2D([], [], color="black", marker="o", ls="", mfc="none", ms=6, label="boundary point"))
    figure.legend(handles=handles, fontsize=8, loc="lower center", ncols=len(handles))
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    save(figure, path)


def nearness(unit: NDArray, table: NDArray, label: int) -> NDArray:
    """Cosine to the own anchor and the largest to another, (N, 2)."""
    cosines = unit @ table.T
    return np.column_stack([cosines[:, label], np.delete(cosines, label, axis=1).max(1)])


def _bare(axis: Axes, frame: str | None) -> None:
    """No ticks; a coloured frame, or none."""
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=frame is not None, color=frame, linewidth=2)

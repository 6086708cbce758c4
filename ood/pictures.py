"""Pictures: samples of every set, atypical beside typical images, curves over epochs, methods side by side."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ood.data.items import ItemSet
from ood.files import atomically

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # the backend must be chosen first

SHOWN_CLASSES = 20  # rows of a sheet; of more classes an even choice is shown
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
    _save(figure, path)


def sheet_of_sets(path: Path, sets: dict[str, ItemSet], columns: int = 24) -> None:
    """A row of samples, evenly spaced through the set, for every set."""
    figure, axes = plt.subplots(len(sets), 1, figsize=(9.5, 0.42 * len(sets) + 0.3))
    for axis, (name, items) in zip(np.atleast_1d(axes), sets.items(), strict=True):
        chosen = np.linspace(0, len(items) - 1, min(columns, len(items))).astype(int)
        axis.imshow(_row(items.images[chosen], columns))
        axis.set_axis_off()
        axis.text(-0.01, 0.5, f"{name}  {len(items)}", transform=axis.transAxes, ha="right", va="center")
    figure.subplots_adjust(left=0.24, right=0.995, top=0.99, bottom=0.01, hspace=0.08)
    _save(figure, path)


def sheet_of_atypical(path: Path, images: NDArray, captions: list[tuple[str, str]]) -> None:
    """The most atypical training images above the most typical, each under its caption.

    Args:
        images: uint8 (2 n, 3, H, W), the n atypical ones first. captions: per image two lines, its class and its figures.
    """
    count = len(images) // 2
    columns = min(count, 12)
    rows = -(-count // columns)
    figure = plt.figure(figsize=(0.8 * columns + 0.2, 2.3 * rows + 0.8))
    halves = figure.subfigures(2, 1)
    groups = (("Most atypical training images", range(count)), ("Most typical", range(count, 2 * count)))
    for half, (title, chosen) in zip(halves, groups, strict=True):
        half.suptitle(f"{title}  (class; loss under masks; share of masks that flip it)", x=0.01, ha="left", fontsize=10, fontweight="bold")
        axes = np.asarray(half.subplots(rows, columns)).reshape(rows, columns)
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, index in zip(axes.flat, chosen, strict=False):
            axis.imshow(images[index].transpose(1, 2, 0))
            name, figures = captions[index]
            axis.set_title(f"{_short(name, 14)}\n{figures}", loc="center", fontsize=7, fontweight="normal", pad=2)
        half.subplots_adjust(left=0.01, right=0.99, top=0.8 - 0.08 / rows, bottom=0.02, wspace=0.08, hspace=0.4)
    _save(figure, path)


def trace_curves(
    path: Path,
    title: str,
    epochs: list[int],
    curves: dict[str, NDArray],
    losses: NDArray,
    collapsing: dict[str, NDArray],
    picked: int,
    oracle: int | None,
) -> None:
    """AUROC of every group over epochs (mean and range over seeds) above the training loss and, where measured, neural collapse.

    Args:
        curves: group -> AUROC, shape (seeds, epochs). losses: (seeds, epochs). collapsing: raw or unit -> NC1, (seeds, epochs), or empty.
        picked, oracle: two of `epochs`.
    """
    heights = [3, 1, 1] if collapsing else [3, 1]
    figure, (upper, lower, *third) = plt.subplots(
        len(heights), 1, figsize=(9, 3.1 + 0.75 * len(heights)), sharex=True, height_ratios=heights
    )
    for group, values in curves.items():
        label = "validation OOD" if group == "validation" else f"{group}-OOD (test)"
        upper.plot(epochs, values.mean(0), color=COLOURS[group], label=label)
        upper.fill_between(epochs, values.min(0), values.max(0), color=COLOURS[group], alpha=0.15, lw=0)
    upper.axvline(picked, color="black", lw=1, label=f"epoch {picked}: picked on validation OOD")
    if oracle is not None:
        upper.axvline(oracle, color="black", lw=1, ls=":", label=f"epoch {oracle}: oracle, the test optimum")
    upper.set_ylabel("AUROC")
    upper.set_title(title)
    upper.legend(fontsize=8, **BESIDE)
    lower.plot(epochs, losses.mean(0), color=COLOURS["id"])
    lower.set_yscale("log")
    lower.set_ylabel("training loss")
    for axis in third:
        for (kind, values), style in zip(collapsing.items(), ("-", "--"), strict=False):
            axis.plot(epochs, values.mean(0), color=COLOURS["id"], ls=style, label="raw features" if kind == "raw" else "their directions")
        if any((values > 0).any() for values in collapsing.values()):  # one image a class has no spread at all
            axis.set_yscale("log")
        axis.set_ylabel("NC1 (training)")
        axis.legend(fontsize=8, **BESIDE)
    last = third[0] if third else lower
    last.set_xlabel("epoch")
    last.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.tight_layout()
    _save(figure, path)


def methods_overview(path: Path, rows: list[tuple[str, dict[str, tuple[float, float]]]], groups: list[str]) -> None:
    """One line per method: mean AUROC of each group with its bootstrap interval.

    Args:
        rows: (label, group -> (mean, low, high)).
    """
    figure, axes = plt.subplots(1, len(groups), figsize=(9.5, 0.32 * len(rows) + 1.0), sharey=True)
    places = np.arange(len(rows))[::-1]
    for axis, group in zip(np.atleast_1d(axes), groups, strict=True):
        for place, (_, values) in zip(places, rows, strict=True):
            mean, low, high = values[group]
            axis.plot([low, high], [place, place], color=COLOURS[group], lw=2, alpha=0.45, solid_capstyle="butt")
            axis.plot(mean, place, "o", color=COLOURS[group], ms=5)
        axis.set_title("validation OOD" if group == "validation" else f"{group}-OOD")
        axis.set_xlabel("AUROC")
        axis.grid(axis="x", alpha=0.25)
        axis.set_yticks(places, [label for label, _ in rows])
    figure.tight_layout()
    _save(figure, path)


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
    _save(figure, path)


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
            seen = f"{_short(row['predicted'], 10)}\n{row['confidence']:.2f}"
            axis.set_title(seen, loc="center", fontsize=7, fontweight="normal", pad=2)
        line[0].text(-0.15, 0.5, _short(name, 16), transform=line[0].transAxes, ha="right", va="center")
    figure.suptitle(
        "Dreamed for each class; what the judge sees in it and how sure it is", x=0.01, ha="left", fontsize=10, fontweight="bold"
    )
    figure.subplots_adjust(left=names / width, right=0.99, top=1 - 0.6 / height, bottom=0.01, wspace=0.08, hspace=0.5)
    _save(figure, path)


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
        for axis, project in ((left, lambda x: x @ plane), (right, lambda x, y=label: _nearness(x, table, y))):
            groups = ((own, "o", 6, 0.5), (edge, "o", 22, 1.0), (vectors, "x", 18, 0.6), (table[[label]], "*", 160, 1.0))
            for order, (points, marker, size, alpha) in enumerate(groups):  # no class's features above another's anchor
                if len(points):
                    style = {"color": colour}
                    if points is edge:
                        style = {"facecolors": "none", "edgecolors": colour}
                    elif marker == "*":
                        style = {"facecolors": colour, "edgecolors": "black"}
                    where = project(points)
                    axis.scatter(where[:, 0], where[:, 1], s=size, marker=marker, alpha=alpha, linewidths=0.9, zorder=2 + order, **style)
        left.annotate(name, table[label] @ plane, xytext=(6, 6), textcoords="offset points", fontsize=9, zorder=6)
    left.set(title="Features, anchors and drawn embeddings", xlabel="first principal direction of the anchors", ylabel="second")
    right.set(title="How near to the class, how near to another", xlabel="cosine to the class's anchor", ylabel="largest cosine to another")
    marks = {"feature": "o", f"{mode} embedding": "x", "anchor (class word)": "*"}
    handles = [plt.Line2D([], [], color="black", marker=m, ls="", label=text, ms=9 if m == "*" else 5) for text, m in marks.items()]
    if mode == "outlier":
        handles.insert(1, plt.Line2D([], [], color="black", marker="o", ls="", mfc="none", ms=6, label="boundary point"))
    figure.legend(handles=handles, fontsize=8, loc="lower center", ncols=len(handles))
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    _save(figure, path)


def _nearness(unit: NDArray, table: NDArray, label: int) -> NDArray:
    """Cosine to the own anchor and the largest to another, (N, 2)."""
    cosines = unit @ table.T
    return np.column_stack([cosines[:, label], np.delete(cosines, label, axis=1).max(1)])


def _bare(axis: plt.Axes, frame: str | None) -> None:
    """No ticks; a coloured frame, or none."""
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=frame is not None, color=frame, linewidth=2)


def _short(name: str, length: int) -> str:
    """A name in at most so many characters."""
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


def _row(images: NDArray, columns: int) -> NDArray:
    """Images (n, H, W, C) side by side with a white gap, enlarged fourfold without smoothing; padded to `columns`."""
    height, width = images.shape[1:3]
    gap = max(1, width // 8)
    row = np.full((height, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        row[:, i * (width + gap) : i * (width + gap) + width] = image
    return row.repeat(4, axis=0).repeat(4, axis=1)


def _save(figure: Figure, path: Path) -> None:
    # Without the version of matplotlib in the file, equal pictures are equal bytes.
    atomically(path, lambda target: figure.savefig(target, dpi=110, format="png", metadata={"Software": None}))
    plt.close(figure)

"""What the report says of DREAM-OOD: the painter, the dreams, the filter, the painter's traces, accuracy under corruption."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ood.config import Params
from ood.config.dream import Diffusion, Embed, Judge, Synthesize
from ood.config.methods import OE
from ood.dream import alignment, dreamed, embeddings
from ood.dream.pictures import nearness
from ood.handover import read_figures, read_table
from ood.report import charts
from ood.report.blocks import Block, Figure, Fold, Gallery, Picture, Row, Table, Text, given
from ood.report.tables import PERCENT, Results, groups_in, id_values, spread
from ood.report.thumbnails import spaced
from ood.tables import last_mean

FIGURES = Path("metrics/dream")
AGREED = 0.8  # how well the encoder must recognise pictures of plain prompts, against real images, for a dream to mean anything
POINTS, CLASSES = 240, 10  # of either kind in a figure; classes of which pictures are shown
TRACE = 1.0  # points of AUROC above chance, and above the control for every seed, from which flagging painted ID is called a trace


@dataclass(frozen=True)
class Dreams:
    """What the dream stages measured.

    painter, judge: who painted and who judged, in words. aligned, proofs: metrics/dream/{align,proofs}.json. embedded, judged: run ->
    figures. kept: run that trains with dreamed images -> (dreamed set, cut, images used, images painted).
    """

    painter: str
    judge: str
    aligned: dict[str, float]
    proofs: dict[str, float]
    embedded: dict[str, dict[str, float]]
    judged: dict[str, dict[str, float]]
    kept: dict[str, tuple[str, float, int, int]]

    @classmethod
    def read(cls, params: Params) -> "Dreams | None":
        """From metrics/dream and metrics/training; None where DREAM-OOD is left out."""
        diffusion = params[Diffusion]
        if not diffusion.enabled:
            return None
        kept = {}
        for name, run in params[OE].runs.items():
            if run.dreamed is None or run.cut is None:  # without an objective there is no cut
                continue
            used = last_mean(name, "oe", "outliers")
            if used is not None:
                kept[name] = (run.dreamed, run.cut, int(used), int(_figures(run.dreamed, f"judge {run.dreamed}", "images")["images"]))
        trained_here = "a small Stable Diffusion v1-format pipeline trained here (`diffusion`)"
        return cls(
            painter=f"`{diffusion.model}`" if diffusion.model else trained_here,
            judge=params[Judge].run,
            aligned=_figures("align", "align", "validation_accuracy"),
            proofs=_figures("proofs", "proofs", "prompts_agreed", "round_trip_pixels_changed"),
            embedded={
                run: _figures(f"embed-{run}", f"embed {run}", "cosine_to_class", "cosine_to_other")
                for run, setting in params[Embed].runs.items()
                if setting.method != "encoder_noise"  # its vectors aren't what is painted
            },
            judged={run: _figures(run, f"judge {run}", "images") for run in params[Synthesize].runs},
            kept=kept,
        )

    @property
    def learned(self) -> bool:
        """Whether the painter can paint the ID classes at all."""
        return self.proofs["prompts_agreed"] >= AGREED * self.aligned["validation_accuracy"]

    @property
    def meaningless(self) -> set[str]:
        """The runs whose figures say nothing, because they trained with pictures of a painter that has not learned."""
        return set() if self.learned else set(self.kept)

    def text(self) -> Text:
        """The painter in a few sentences."""
        agreed = self.proofs["prompts_agreed"]
        text = (
            f"Painted by {self.painter}; one pipeline, one set of embeddings and one set of pictures for all seeds of the classifiers, so "
            "that the spread over seeds doesn't hold the painter's own. An encoder trained on ID images (right on "
            f"{self.aligned['validation_accuracy']:.1%} of ID validation) recognises {agreed:.1%} of what it paints for the plain prompts."
        )
        if not self.learned:
            text += " **It has not learned to paint the ID classes: no figure of a run that trains with its dreams is shown.**"
        return Text(text, warning=not self.learned)

    def tables(self) -> list[Block]:
        """The sets of vectors and pictures, and what the filter leaves of them."""
        keys = {"to the seed feature": "cosine_to_seed", "to the class word": "cosine_to_class", "to another word": "cosine_to_other"}
        rows = [
            [run, *[f"{f[key]:.2f}" if key in f else "-" for key in keys.values()], f"{f['nearest_is_own']:.0%}"]
            for run, f in self.embedded.items()
        ]
        drawn = Table(["embed run", *keys, "class word is the nearest"], rows) if rows else None
        parts = given("Cosines of the drawn embeddings, means:", drawn)
        shares = {
            "seen as its class": "predicted_as_own_class",
            "any class > 0.9": "any_class_above_0.9",
            "own > 0.9": "own_class_above_0.9",
        }
        rows = [
            [run, f"{f['images']:.0f}", *[f"{f[key]:.1%}" for key in shares.values()], f"{f['mean_confidence']:.2f}"]
            for run, f in self.judged.items()
        ]
        seen = Table(["set", "images", *shares, "mean confidence"], rows) if rows else None
        parts += given(f"What `{self.judge}` makes of the pictures:", seen)
        rows = [[name, run, f"{cut:g}", f"{used / all_:.1%}", str(used)] for name, (run, cut, used, all_) in self.kept.items()]
        header = ["run", "dreamed set", "cut", "share used", "images used"]
        return [*parts, *given("The filter of each run:", Table(header, rows) if rows else None)]

    def shown(self) -> Iterator[Block]:
        """Where every set was drawn, and pictures of what was painted there."""
        if self.embedded:
            yield Row([_map(run) for run in self.embedded])
        for number, run in enumerate(self.judged):
            yield Fold(
                f"{run}: what was painted, what {self.judge} sees in it and how sure it is", _pictures(run, self.judge), open=not number
            )

    def traces(self, results: Results, pairs: dict[str, str]) -> list[Block]:
        """The painter's traces: how far each model takes ID as the painter renders it for OOD, and dream runs against their controls."""
        table = painted_table(results)
        if table is None:
            return []
        parts: list[Block] = [
            Text(
                "The control of dreamed outliers: ID test images sent through the diffusion model's autoencoder "
                f"({self.proofs['round_trip_pixels_changed']:.1%} of the pixels change) and pictures from plain prompts that the encoder "
                "agrees with are ID all the same. A detector that flags them more than its control does has learned the painter, not the "
                "dream. AUROC against ID test, own score; 50: not told apart, below 50: taken for more ID than ID."
            ),
            table,
        ]
        for run in self.kept:
            control = pairs.get(run)
            if run in results and control in results:
                parts.append(_verdict(run, control, results))
        return parts


def _figures(name: str, stage: str, *needed: str) -> dict[str, float]:
    return read_figures(FIGURES / f"{name}.json", stage, needed)


def _painted(summary: dict, score: str) -> dict[str, np.ndarray]:
    """AUROC of a score on every painted set against ID test, one value per seed, in percent."""
    grids = [seed["grid"][score] for seed in summary["seeds"].values()]
    names = sorted(name for name in grids[0] if name.startswith("painted/"))
    return {name: PERCENT * np.array([grid[name]["auroc"] for grid in grids]) for name in names}


def painted_table(results: Results) -> Table | None:
    """Own score on the painted sets; None where no test figure was asked for."""
    names = list(_painted(next(iter(results.values())), next(iter(results.values()))["own"]))
    if not names:
        return None
    rows = [[model, s["own"], *[spread(values) for values in _painted(s, s["own"]).values()]] for model, s in results.items()]
    return Table(["model", "own score", *names], rows)


def _map(run: str) -> Figure:
    """How near features and drawn embeddings lie to their class's anchor, and to another's."""
    features, labels, anchors, _ = alignment.load()
    vectors, mode, _ = embeddings.load(run)
    unit, table = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (features, anchors))
    kinds: dict[str, list[NDArray]] = {"feature": [], f"{mode} embedding": []}
    for label in range(len(anchors)):
        own, drawn = unit[labels == label], np.asarray(vectors[label], np.float64)
        drawn = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        few = max(3, POINTS // len(anchors))
        for kind, points in zip(kinds.values(), (own, drawn), strict=True):
            if len(points):
                kind.append(nearness(points[spaced(len(points), few)], table, label))
    places = {kind: np.concatenate(found) for kind, found in kinds.items() if found}
    title = f"{run}: features and drawn embeddings"
    said = ("cosine to the class's anchor", "largest cosine to another")
    return charts.nearness(f"embed-{run}", title, {kind: (xy[:, 0], xy[:, 1]) for kind, xy in places.items()}, said)


def _pictures(run: str, judge: str) -> list[Gallery]:
    """Of every class some, from those that the judge is least sure of to those it takes for ID."""
    painted = dreamed.load(run)
    rows = read_table(dreamed.DREAMED / run / "manifest.csv", f"judge {run}", ("predicted",))
    galleries = []
    for label in spaced(len(painted.classes), CLASSES):
        members = np.flatnonzero(painted.labels == label)
        ranked = members[np.argsort(painted.confidence[members], kind="stable")]
        name = painted.classes[label]
        pictures = []
        for index in ranked[spaced(len(ranked))]:
            lines = (rows[index]["predicted"], f"{painted.confidence[index]:.2f}")
            alt = f"dreamed for {name}; {judge} sees {lines[0]}, confidence {lines[1]}"
            pictures.append(Picture.of(np.ascontiguousarray(painted.images[index]), alt, *lines))
        galleries.append(Gallery(f"For {name}", pictures))
    return galleries


def _verdict(run: str, control: str, results: Results) -> Text:
    """A sentence: whether a dream run flags painted ID more than its control, on the same score, by seed."""
    score, found = results[run]["own"], []
    ours, theirs = _painted(results[run], score), _painted(results[control], score)
    for name in ours:
        change = ours[name] - theirs[name]
        learned = ours[name].mean() > 50 + TRACE and len(change) > 1 and (change > 0).all() and change.mean() > TRACE
        found.append(f"{name} {spread(change, signed=True)}" + (" (**it has learned the painter's traces**)" if learned else ""))
    return Text(f"`{run}` against `{control}`, on {score}: {', '.join(found)} points.")


def accuracy_table(results: Results, role: str) -> Table | None:
    """Accuracy on ID test images and on each set of `role` (corrupted or shifted); None where there is none."""
    first = next(iter(next(iter(results.values()))["seeds"].values()))
    if groups_in(results) == ["validation"] or not first[role]:
        return None
    names = sorted(first[role])
    rows = []
    for model, summary in results.items():
        table = [PERCENT * np.array([seed[role][name] for seed in summary["seeds"].values()]) for name in names]
        mean = np.mean(table, axis=0)
        rows.append([model, spread(id_values(summary, "accuracy", "test")), *[spread(values) for values in table], spread(mean)])
    header = {"corrupted": ["clean", *names, "mean under corruption"], "shifted": ["test", *names, "mean of the shifted"]}
    return Table(["model", *header[role]], rows)

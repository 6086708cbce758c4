"""What the report says of DREAM-OOD: the painter, the dreams, the filter, the painter's traces, accuracy under corruption."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ood.config import Params
from ood.config.dream import Diffusion, Embed, Judge, Synthesize
from ood.config.methods import OE
from ood.handover import read_figures
from ood.report.tables import PERCENT, Results, groups_in, id_values, markdown_table, spread
from ood.tables import last_mean

FIGURES = Path("metrics/dream")
AGREED = 0.8  # how well the encoder must recognise pictures of plain prompts, against real images, for a dream to mean anything
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
            embedded={run: _figures(f"embed-{run}", f"embed {run}", "cosine_to_class", "cosine_to_other") for run in params[Embed].runs},
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

    def text(self) -> str:
        """The painter in a few sentences."""
        agreed = self.proofs["prompts_agreed"]
        text = (
            f"Painted by {self.painter}; one pipeline, one set of embeddings and one set of pictures for all seeds of the classifiers, so "
            "that the spread over seeds doesn't hold the painter's own. An encoder trained on ID images (right on "
            f"{self.aligned['validation_accuracy']:.1%} of ID validation) recognises {agreed:.1%} of what it paints for the plain prompts."
        )
        if not self.learned:
            text += " **It has not learned to paint the ID classes: no figure of a run that trains with its dreams is shown.**"
        return text

    def tables(self) -> list[str]:
        """The sets of vectors and pictures, and what the filter leaves of them."""
        keys = {"to the seed feature": "cosine_to_seed", "to the class word": "cosine_to_class", "to another word": "cosine_to_other"}
        rows = [
            [run, *[f"{f[key]:.2f}" if key in f else "-" for key in keys.values()], f"{f['nearest_is_own']:.0%}"]
            for run, f in self.embedded.items()
        ]
        parts = ["Cosines of the drawn embeddings, means:", markdown_table(["embed run", *keys, "class word is the nearest"], rows)]
        shares = {
            "seen as its class": "predicted_as_own_class",
            "any class > 0.9": "any_class_above_0.9",
            "own > 0.9": "own_class_above_0.9",
        }
        rows = [
            [run, f"{f['images']:.0f}", *[f"{f[key]:.1%}" for key in shares.values()], f"{f['mean_confidence']:.2f}"]
            for run, f in self.judged.items()
        ]
        parts += [f"What `{self.judge}` makes of the pictures:", markdown_table(["set", "images", *shares, "mean confidence"], rows)]
        rows = [[name, run, f"{cut:g}", f"{used / all_:.1%}", str(used)] for name, (run, cut, used, all_) in self.kept.items()]
        header = ["run", "dreamed set", "cut", "share used", "images used"]
        return [*parts, *(["The filter of each run:", markdown_table(header, rows)] if rows else [])]

    def traces(self, results: Results, pairs: dict[str, str]) -> list[str]:
        """The painter's traces: how far each model takes ID as the painter renders it for OOD, and dream runs against their controls."""
        table = painted_table(results)
        if table is None:
            return []
        parts = [
            "The control of dreamed outliers: ID test images sent through the diffusion model's autoencoder "
            f"({self.proofs['round_trip_pixels_changed']:.1%} of the pixels change) and pictures from plain prompts that the encoder "
            "agrees with are ID all the same. A detector that flags them more than its control does has learned the painter, not the "
            "dream. AUROC against ID test, own score; 50: not told apart, below 50: taken for more ID than ID.",
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


def painted_table(results: Results) -> str | None:
    """Own score on the painted sets; None where no test figure was asked for."""
    names = list(_painted(next(iter(results.values())), next(iter(results.values()))["own"]))
    if not names:
        return None
    rows = [[model, s["own"], *[spread(values) for values in _painted(s, s["own"]).values()]] for model, s in results.items()]
    return markdown_table(["model", "own score", *names], rows)


def _verdict(run: str, control: str, results: Results) -> str:
    """A sentence: whether a dream run flags painted ID more than its control, on the same score, by seed."""
    score, found = results[run]["own"], []
    ours, theirs = _painted(results[run], score), _painted(results[control], score)
    for name in ours:
        change = ours[name] - theirs[name]
        learned = ours[name].mean() > 50 + TRACE and (change > 0).all() and change.mean() > TRACE
        found.append(f"{name} {spread(change, signed=True)}" + (" (**it has learned the painter's traces**)" if learned else ""))
    return f"`{run}` against `{control}`, on {score}: {', '.join(found)} points."


def accuracy_table(results: Results, role: str) -> str | None:
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
    return markdown_table(["model", *header[role]], rows)

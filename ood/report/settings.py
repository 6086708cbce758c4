"""The report's last table: every run with the settings that it was made with."""

from ood.config import Params
from ood.config.dream import Embed, EmbedRun, Painting, Synthesize
from ood.config.methods import OE, UM, UMAP, Mask, OERun
from ood.config.training import Pretrain, Training
from ood.report.tables import markdown_table


def settings_table(params: Params, constraint: float) -> str:
    """What was set, and where the value comes from.

    Args:
        constraint: what the mask stage estimated, for thresholds that are null.
    """
    pretrain, mask, um, umap, oe = params[Pretrain], params[Mask], params[UM], params[UMAP], params[OE]
    rows = [[name, recipe(run.over(pretrain.training))] for name, run in pretrain.runs.items()]
    rows.append(["mask", f"keep {mask.keep:g}, {mask.masks} masks"])
    rows.append(["um, control", f"b = {level(um.threshold, constraint)} (control: none); {recipe(um.training)}"])
    rows.append(
        ["umap, umap-control", f"b = {level(umap.threshold, constraint)} (control: none), keep {umap.keep:g}; {recipe(umap.training)}"]
    )
    p, embed = params[Painting], params[Embed]
    for name, run in params[Synthesize].runs.items():
        rows.append([f"synthesize {name}", f"{drawing(embed.runs[run.embed])}; {p.sampler}, {p.steps} steps, guidance {p.guidance:g}"])
    for name, run in oe.runs.items():
        rows.append([name, f"from {run.init}; {lesson(run)}; {recipe(run.over(oe.training))}"])
    return markdown_table(["run", "settings"], rows)


def lesson(run: OERun) -> str:
    """What a run's outliers teach, in a few words."""
    text = {
        "uniform": f"uniform loss x {run.outlier_weight:g}",
        "energy": f"energy margins {run.m_in}, {run.m_out} x {run.outlier_weight:g}",
        "dream": f"energy regulariser ({run.phi}) x {run.outlier_weight:g}",
        "label": "cross-entropy",
        "none": "no outliers",
    }[run.objective]
    text += f" on {run.outliers}, cut {run.cut:g}" if run.dreamed and run.objective != "none" else ""
    return text + (", um's b on ID" if run.constraint == "um" else "")


def drawing(run: EmbedRun) -> str:
    """How an embed run draws, in a few words."""
    spread = f", cosine {run.cosine:g}" if run.cosine else ""
    edge = f" and boundary {run.boundary}" if run.mode == "outlier" else ""
    ranks = f", k {run.k}{edge} of {run.features_per_class}, {run.selection}" if run.method == "knn" else ""
    return f"{run.mode}s, {run.method}{spread}{ranks}"


def recipe(training: Training) -> str:
    """A training's numbers in a few words."""
    rate = f"lr {training.lr:g} {training.schedule}"
    strong = training.strong.model_dump(exclude_defaults=True)
    extra = "".join(f", {key.replace('_', ' ')} {value:g}" for key, value in strong.items())
    return f"{training.epochs} epochs, {rate}, batch {training.batch_size}, weight decay {training.weight_decay:g}{extra}"


def level(threshold: float | None, estimate: float) -> str:
    """The loss constraint and whether it was set or estimated."""
    return f"{estimate:.3g} (estimated by mask, mean over seeds)" if threshold is None else f"{threshold:g} (set)"

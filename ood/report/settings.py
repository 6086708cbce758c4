"""A table of the report: every run with the settings that it was made with."""

from ood.config import Params
from ood.config.dream import Align, Aligned, Embed, EmbedRun, Painting, Synthesize
from ood.config.evaluation import Models
from ood.config.methods import OE, UM, UMAP, FineTune, Mask, OERun, UMRun
from ood.config.training import Epoch, Epochs, Pretrain, PretrainRun, Training, Words
from ood.dream.alignment import MODEL
from ood.report.blocks import Table
from ood.report.measured import level


def settings_table(params: Params, masks: dict[str, dict[str, float | None]], epochs: dict[str, dict[str, float]]) -> Table:
    """What was set, and where the value comes from.

    Args:
        masks: what the mask stage estimated, for thresholds that are null. epochs: which epochs validation chose, by seed.
    """
    pretrain, mask, um, umap, oe = params[Pretrain], params[Mask], params[UM], params[UMAP], params[OE]
    rows: list[list[str]] = []
    for name, run in pretrain.runs.items():
        own = run.over(pretrain.training)
        rows.append([name, f"given: {run.weights}" if run.weights and not own.epochs else taught(run) + recipe(own)])
    rows += [[name, kept(epoch, epochs[name])] for name, epoch in params[Epochs].root.items()]
    for name, masked in mask.runs.items():
        masking = mask.masking(masked)
        rows.append([f"mask {name}", f"on {masked.init}; keep {masking.keep:g}, {masking.masks} masks"])
    for name, run in um.runs.items():
        rows.append([name, f"from {run.init}; {forgotten(run, masks)}{held(run, um.threshold, masks)}; {recipe(run.over(um.training))}"])
    for name, pruned in umap.runs.items():
        b = f"{held(pruned, umap.threshold, masks)}, keep {umap.kept(pruned):g}"
        rows.append([name, f"from {pruned.init}; {b}; {recipe(pruned.over(umap.training))}"])
    if MODEL in params[Models].root:
        align = params[Align]
        words = params[Aligned].negatives
        others = "" if words is None else f", and others ({'of data.world' if words == 'world' else len(words)}; neglabel)"
        told = f"cosines with class words{others} over {align.temperature:g}; one network under every seed, so its spread says nothing"
        rows.append([MODEL, f"{told}; {recipe(align.training)}"])
    p, embed = params[Painting], params[Embed]
    for name, painted in params[Synthesize].runs.items():
        drawn = drawing(embed.runs[painted.embed])
        rows.append([f"synthesize {name}", f"{drawn}; {p.sampler}, {p.steps} steps, guidance {p.guidance:g}"])
    for name, exposed in oe.runs.items():
        b = f"; {held(exposed, um.threshold, masks)}" if exposed.constrained else ""
        rows.append([name, f"from {exposed.init}; {lesson(exposed)}{b}; {recipe(exposed.over(oe.training))}"])
    return Table(["run", "settings"], rows)


def kept(epoch: Epoch, found: dict[str, float]) -> str:
    """Which epoch of which run a model is."""
    if epoch.by is None:
        return f"epoch {epoch.epoch} of {epoch.run}"
    where = "accuracy on ID validation" if epoch.by == "accuracy" else f"AUROC of {epoch.by} on validation OOD"
    return f"{epoch.run}, stopped where {where} is largest: epoch {', '.join(f'{at:.0f}' for at in found.values())} by seed"


def _others(words: Words | None) -> str:
    """What a head of words says, and that it is one."""
    if words is None:
        return ""
    others = f", beside {len(words.negatives)} others (neglabel)" if words.negatives else ""
    over = "its own temperature" if words.temperature is None else f"{words.temperature:g}"
    return f", {words.template!r}{others}, over {over}; without training one network under every seed, so its spread says nothing"


def taught(run: PretrainRun) -> str:
    """What is particular to a pretraining run, in a few words."""
    found = {
        f"given: {run.weights}": run.weights is not None,
        "L2-normalised features": run.normalize,
        f"a head of class words{_others(run.words)}": run.words is not None,
        f"LogitNorm, tau {run.tau}": run.tau is not None,
        f"a confidence branch, budget {run.confidence}": run.confidence is not None,
        f"a rotation branch x {run.rotation}": run.rotation is not None,
    }
    return "".join(f"{text}; " for text, there in found.items() if there)


def lesson(run: OERun) -> str:
    """What a run's outliers teach, in a few words."""
    text = {
        "uniform": f"uniform loss x {run.outlier_weight:g}",
        "energy": f"energy margins {run.m_in}, {run.m_out} x {run.outlier_weight:g}",
        "dream": f"energy regulariser ({run.phi}) x {run.outlier_weight:g}",
        "label": "cross-entropy",
        "confidence": f"little confidence x {run.outlier_weight:g}",
        "none": "no outliers",
    }[run.objective]
    if run.mine:
        text += f" on those near the boundary, {run.mine.share:.0%} in each epoch"
    if run.perturb:
        text += f" at {'worse' if run.perturb.towards == 'worst' else 'better'} weights"
    return text + (f" on {run.outliers}, cut {run.cut:g}" if run.dreamed and run.objective != "none" else "")


def drawing(run: EmbedRun) -> str:
    """How an embed run draws, in a few words."""
    spread = f", cosine {run.cosine:g}" if run.cosine else ""
    chosen = "" if run.selection == "described" else f", {run.selection}"
    edge = f" and boundary {run.boundary}" if run.mode == "outlier" else ""
    ranks = f", k {run.k}{edge} of {run.features_per_class}{chosen}" if run.method == "knn" else ""
    if run.method == "crossing":
        ranks = f", boundary {run.boundary} of {run.features_per_class}{chosen}, steps of {run.step:g}, {run.beyond} beyond"
    return f"{run.mode}s, {run.method}{spread}{ranks}"


def forgotten(run: UMRun, masks: dict[str, dict[str, float | None]]) -> str:
    """Which images a run forgets, and how, where it forgets some alone."""
    forget = run.forget
    if forget is None:
        return ""
    estimate = masks[run.constraint].get("contradicted") if forget.share is None else None
    share = f"{forget.share:.0%}" if forget.share is not None else f"{estimate or 0:.1%}, the labels that the first epochs contradict,"
    which = "at random" if forget.by == "random" else f"most atypical by {forget.by.replace('_', ' ')}"
    return f"{share} of the images, {which}, {'left out' if forget.how == 'drop' else 'alone held'}; "


def recipe(training: Training) -> str:
    """A training's numbers in a few words."""
    rate = f"lr {training.lr:g} {training.schedule}"
    strong = training.strong.model_dump(exclude_defaults=True, exclude={"pixmix"})
    if training.strong.pixmix:
        strong["PixMix, fractals"] = training.strong.pixmix.pictures
    extra = "".join(f", {key.replace('_', ' ')} {value:g}" for key, value in strong.items())
    extra += f", weights averaged ({training.ema:g})" if training.ema else ""
    alone = "the head alone, " if training.frozen else ""
    return f"{alone}{training.epochs} epochs, {rate}, batch {training.batch_size}, weight decay {training.weight_decay:g}{extra}"


def held(run: FineTune, threshold: float | None, masks: dict[str, dict[str, float | None]]) -> str:
    """The loss constraint of a run and whether it was set or estimated."""
    b = level(run, threshold, masks)
    if b is None:
        return "no constraint"
    source = "set" if run.given(threshold) is not None else f"estimated by mask {run.constraint}, mean over seeds"
    return f"b = {b:.3g} ({source})"

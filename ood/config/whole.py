"""All of params.yaml at once: every section on its own, then what they must agree on. Imports no torch."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from ood.config import Keyed, Params
from ood.config.data import Data
from ood.config.dream import Align, Diffusion, Embed, Judge, Painting, Prompts, Proofs, Synthesize
from ood.config.evaluation import Evaluate, Features, Models, Report, Scores, Trace
from ood.config.methods import OE, UM, UMAP, Mask
from ood.config.nets import Net
from ood.config.training import Augment, Pretrain, Runtime, Seeds
from ood.errors import InputError

SECTIONS: dict[str, type[Keyed]] = {
    kind.key: kind
    for kind in (
        Seeds,
        Runtime,
        Data,
        Net,
        Augment,
        Pretrain,
        Trace,
        Mask,
        UM,
        UMAP,
        Prompts,
        Diffusion,
        Align,
        Embed,
        Painting,
        Proofs,
        Synthesize,
        Judge,
        OE,
        Models,
        Features,
        Scores,
        Evaluate,
        Report,
    )
}
RESERVED = {"mask", "data"}  # names of other files in metrics/
FINE_TUNES = ("um", "control", "umap", "umap-control")


def check(params: Params) -> None:
    """Raises one InputError with every problem found; passes silently otherwise."""
    problems, sections = [], {}
    for name in params.raw:
        if name not in SECTIONS:
            problems.append(f"{params.path}: {name}: unknown section. Remove it; known are {', '.join(SECTIONS)}.")
    for name, kind in SECTIONS.items():
        try:
            sections[name] = params[kind]
        except InputError as error:
            problems.append(str(error))
    if not problems:
        found = list(_recipes(**sections)) or [*_disagreements(**sections), *_dreams(**sections)]
        problems = [f"{params.path}: {problem}" for problem in found]
    if problems:
        raise InputError("\n".join(problems))


def _recipes(*, pretrain: Pretrain, oe: OE, align: Align, net: Net, data: Data, diffusion: Diffusion, **_) -> Iterator[str]:
    """Every run's training must make sense with its own values in it, and every network must take the images."""
    for key, stage in (("pretrain", pretrain), ("oe", oe)):
        for name, run in stage.runs.items():
            try:
                run.over(stage.training)
            except ValidationError as error:
                yield f"{key}.runs.{name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}."
    nets = {f"pretrain.runs.{name}.net": run.net for name, run in pretrain.runs.items() if run.net}
    nets |= {"align.net": align.net} if diffusion.enabled and align.net else {}
    nets |= {"net": net} if len(nets) < len(pretrain.runs) + diffusion.enabled else {}
    for key, used in nets.items():
        if reason := used.misfit(data.chain.side):
            yield f"{key}.name: {reason} (data.chain). Change one of the two."


def _disagreements(
    *,
    pretrain: Pretrain,
    trace: Trace,
    mask: Mask,
    um: UM,
    umap: UMAP,
    oe: OE,
    models: Models,
    features: Features,
    report: Report,
    **_,
) -> Iterator[str]:
    trained = {name: run.over(pretrain.training).epochs for name, run in pretrain.runs.items()}
    recipes = {name: run.over(stage.training) for stage in (oe, pretrain) for name, run in stage.runs.items()}
    for name in set(pretrain.runs) & set(oe.runs) | (set(pretrain.runs) | set(oe.runs)) & set(FINE_TUNES):
        yield f"runs: the name {name!r} is taken twice (among pretrain.runs, oe.runs, {', '.join(FINE_TUNES)}). Rename one."
    for name in RESERVED & (set(pretrain.runs) | set(oe.runs)):
        yield f"runs: {name!r} can't be a run's name: metrics/{name}.json is another file. Rename it."
    if not trained.get(mask.run):
        yield f"mask.run: {mask.run!r} is not a pretraining run with at least one epoch. Known: {_known(filter(trained.get, trained))}."
    for name in trace.runs:
        if not trained.get(name):
            yield f"trace.runs.{name}: not a pretraining run with at least one epoch. Known: {_known(filter(trained.get, trained))}."
        elif pretrain.keep_epochs == 0:
            yield f"trace.runs.{name}: nothing to trace, pretrain.keep_epochs is 0. Set it to 1 or more."
    constrained = {"um": um.training, "umap": umap.training}
    constrained |= {f"oe.runs.{name}": run.over(oe.training) for name, run in oe.runs.items() if run.constraint == "um"}
    for name, training in constrained.items():
        if training.strong.label_smoothing or training.strong.softens_by_mixing:
            yield f"{name}: b is a loss on hard labels; with soft ones the loss never falls to it. Take label_smoothing, mixup, cutmix out."
    for name, run in oe.runs.items():
        if run.init not in {*trained, "um", "control"}:
            yield f"oe.runs.{name}.init: {run.init!r} is no model to start from. Known: {_known([*trained, 'um', 'control'])}."
        if run.constraint == "um" and run.init != "um":
            yield (
                f"oe.runs.{name}.constraint: 'um' takes the level that um was trained with, but init is {run.init!r}. Set init to um, or "
                "constraint to none."
            )
    known = {*trained, *FINE_TUNES, *oe.runs}
    for name, score in models.root.items():
        if name not in known:
            yield f"models.{name}: no such run. Known: {_known(known)}."
        elif score == "odin" and features.odin is None:
            yield f"models.{name}: its own score is odin, which features.odin: null leaves out. Change one of the two."
    for method, control in report.pairs.items():
        if method == control:
            yield f"report.pairs.{method}: a method can't be its own control. Name another model, or remove the pair."
        missing = [name for name in (method, control) if name not in models.root]
        if missing:
            yield f"report.pairs.{method}: {missing[0]!r} is not evaluated. Add it to models, or remove the pair."
        elif method in recipes and control in recipes and recipes[method] != recipes[control]:
            pairs = zip(recipes[method], recipes[control], strict=True)
            unequal = ", ".join(f"{key} {one} against {other}" for (key, one), (_, other) in pairs if one != other)
            yield f"report.pairs.{method}: {control} is no control, it trains differently ({unequal}). Make them equal."


def _dreams(
    *,
    pretrain: Pretrain,
    prompts: Prompts,
    diffusion: Diffusion,
    embed: Embed,
    synthesize: Synthesize,
    judge: Judge,
    oe: OE,
    data: Data,
    align: Align,
    **_,
) -> Iterator[str]:
    if align.anchors is not None and not align.anchors.is_file():
        yield f"align.anchors: {align.anchors}: no such file. Correct the path, or set it to null."
    if not diffusion.enabled:
        wanted = {"embed.runs": embed.runs, "synthesize.runs": synthesize.runs}
        wanted |= {f"oe.runs.{name}": run for name, run in oe.runs.items() if run.dreamed is not None}
        if any(wanted.values()):
            keys = ", ".join(key for key, value in wanted.items() if value)
            yield f"{keys}: needs DREAM-OOD, but diffusion.enabled is false. Empty or remove what is named here, or set it to true."
        return
    trained = [name for name, run in pretrain.runs.items() if run.over(pretrain.training).epochs]
    classes = data.id_classes()
    for key in ("names", "words"):
        for label in getattr(prompts, key):
            if classes is not None and label not in classes:
                yield f"prompts.{key}.{label}: no such ID class. Known: {_known(classes)}."
    for label in classes or {**prompts.names, **prompts.words}:
        if not re.search(rf"(?<!\w){re.escape(prompts.word(label))}(?!\w)", prompts.prompt(label), re.IGNORECASE):
            yield f"prompts.words.{label}: {prompts.word(label)!r} isn't in the prompt {prompts.prompt(label)!r}. Correct one of the two."
    said = [prompts.name(label).lower() for label in classes or prompts.names]
    for name in sorted({name for name in said if said.count(name) > 1}):
        yield f"prompts.names: two ID classes are called {name!r}. Give each its own name."
    for run, setting in embed.runs.items():
        for name in setting.names or ():
            if name.lower() in {*said, *(label.lower() for label in classes or ())}:
                yield f"embed.runs.{run}.names: {name!r} is an ID class; outliers need other names. Take it out."
    if diffusion.model is None and diffusion.small.size < data.chain.side:
        side, size = data.chain.side, diffusion.small.size
        yield f"diffusion.small.size: it draws {size} pixels, but images have {side} (data.chain). Set it to {side} or more."
    if diffusion.model is None and not data.world:
        yield "data.world: empty, but diffusion.model is null: a model that has seen only ID classes paints only those. Add sources."
    if diffusion.model and diffusion.model.startswith((".", "/")) and not Path(diffusion.model).is_dir():
        yield f"diffusion.model: {diffusion.model}: no such folder. Give a hub id, an existing folder, or null."
    if judge.run not in trained:
        yield f"judge.run: {judge.run!r} is not a pretraining run with at least one epoch. Known: {_known(trained)}."
    for name, run in synthesize.runs.items():
        if name in ("align", "diffusion", "proofs") or name.startswith("embed-"):
            yield f"synthesize.runs.{name}: metrics/dream/{name}.json is another file. Rename the run."
        if run.embed not in embed.runs:
            yield f"synthesize.runs.{name}.embed: no run {run.embed!r} in embed.runs. Known: {_known(embed.runs)}."
    for name, run in oe.runs.items():
        if run.dreamed is None:
            continue
        if run.dreamed not in synthesize.runs:
            yield f"oe.runs.{name}.outliers: no run {run.dreamed!r} in synthesize.runs. Known: {_known(synthesize.runs)}."
            continue
        source = synthesize.runs[run.dreamed]
        mode = embed.runs[source.embed].mode if source.embed in embed.runs else None
        if mode and run.objective != "none" and (mode == "inlier") != (run.objective == "label"):
            wanted = "inlier" if run.objective == "label" else "outlier"
            yield f"oe.runs.{name}: objective {run.objective!r} needs dreamed {wanted}s, {run.dreamed!r} holds {mode}s. Change one."
        if run.per_class and run.per_class > source.count:
            yield f"oe.runs.{name}.per_class: {run.per_class} of each class, but {run.dreamed!r} paints {source.count}. Lower it."


def _known(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))

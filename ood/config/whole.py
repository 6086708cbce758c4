"""All of params.yaml at once: every section on its own, then what they must agree on. Imports no torch."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from ood.config import Keyed, Params, spelt
from ood.config.comparisons import ALIGNED, comparisons
from ood.config.data import Data
from ood.config.detector import AUTO, Detector
from ood.config.dream import Align, Aligned, Diffusion, Embed, Judge, Painting, Prompts, Proofs, Synthesize
from ood.config.evaluation import Evaluate, Features, Models, Report, ScoreName, Scores, Trace
from ood.config.lineage import Lineage, known
from ood.config.look import Look
from ood.config.methods import NO_CONSTRAINT, OE, UM, UMAP, FineTune, Mask, OERun
from ood.config.nets import Net
from ood.config.training import Augment, Epochs, Pretrain, Runtime, Seeds
from ood.config.unsuited import unsuited
from ood.errors import InputError

SECTIONS: dict[str, type[Keyed]] = {
    kind.key: kind
    for kind in (
        Seeds,
        Runtime,
        Data,
        Look,
        Net,
        Augment,
        Pretrain,
        Epochs,
        Trace,
        Mask,
        UM,
        UMAP,
        Prompts,
        Diffusion,
        Align,
        Aligned,
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
        Detector,
        Report,
    )
}
READ = 77  # tokens that Stable Diffusion's text encoder reads
PIECES = re.compile(r"[^\W\d_]+|\d|[^\s\w]+|_+")  # what CLIP's tokenizer splits prompts into first: a token each, or several
RESERVED = {"data", "detector"}  # names of other files in metrics/


def check(params: Params) -> None:
    """Raises one InputError with every problem found; passes silently otherwise."""
    problems: list[str] = []
    sections: dict[str, Any] = {}
    for name in params.raw:
        if name not in SECTIONS:
            problems.append(f"{params.path}: {spelt(name)}: unknown section. Remove it; known are {', '.join(SECTIONS)}.")
    for name, kind in SECTIONS.items():
        try:
            sections[name] = params[kind]
        except InputError as error:
            problems.append(str(error))
    if not problems:
        # One mistake, one line: what only follows from another isn't asked.
        found = (
            list(unsuited(**sections))
            or list(_recipes(**sections))
            or [*_runs(**sections), *_dreams(**sections)]
            or list(comparisons(**sections))
        )
        problems = [f"{params.path}: {problem}" for problem in found]
    if problems:
        raise InputError("\n".join(problems))


def check_against(params: Params, classes: list[str] | None, training: int | None) -> None:
    """What must agree with the images; `check` has passed.

    Args:
        classes: names of the ID classes; None: known only when the images are read.
        training: how many ID training images there are, or None.

    Raises:
        InputError: as `check`.
    """
    sections: dict[str, Any] = {name: params[kind] for name, kind in SECTIONS.items()}
    problems = [
        *_words(classes, **sections),
        *_prompts(classes, **sections),
        *_neighbours(training, **sections),
        *_thresholds(classes, **sections),
    ]
    if problems:
        raise InputError("\n".join(f"{params.path}: {problem}" for problem in problems))


def _recipes(
    *,
    pretrain: Pretrain,
    augment: Augment,
    um: UM,
    umap: UMAP,
    oe: OE,
    align: Align,
    net: Net,
    data: Data,
    diffusion: Diffusion,
    **_: object,
) -> Iterator[str]:
    """Every run's training must make sense with its own values in it, and every network must take the images."""
    stages: dict[str, Pretrain | UM | UMAP | OE] = {"pretrain": pretrain, "um": um, "umap": umap, "oe": oe}
    for key, stage in stages.items():
        for name, run in stage.runs.items():
            try:
                run.over(stage.training)
            except ValidationError as error:
                yield f"{key}.runs.{name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}."
    augments = {f"pretrain.runs.{name}.augment": run.augment for name, run in pretrain.runs.items() if run.augment} | {"augment": augment}
    for key, own in augments.items():
        if own.pad >= data.side:
            yield f"{key}.pad: {own.pad} pixels around images of {data.side}: some crops show nothing but padding. Lower it."
    nets = {f"pretrain.runs.{name}.net": run.net for name, run in pretrain.runs.items() if run.net}
    nets |= {"align.net": align.net} if diffusion.enabled and align.net else {}
    nets |= {"net": net} if len(nets) < len(pretrain.runs) + diffusion.enabled else {}
    for name, run in pretrain.runs.items():
        reads = run.net or net
        if run.words is not None and not (reads.clip and reads.weights):
            yield f"pretrain.runs.{name}.words: a CLIP with its weights reads them, no {reads.name}. Take clip/<name>, weights: published."
    misfits: dict[str, list[str]] = {}
    for key, used in nets.items():
        if reason := used.misfit(data.side, text=data.is_text):
            misfits.setdefault(reason, []).append(f"{key}.name")
    if misfits:  # one line for all: a size that one net can't take is often one that none can
        told = "; ".join(f"{', '.join(keys)}: {reason}" for reason, keys in misfits.items())
        yield f"{told} ({'data.kind' if data.is_text else 'data.chain'}). Change one of the two."


def _runs(*, pretrain: Pretrain, epochs: Epochs, um: UM, umap: UMAP, oe: OE, mask: Mask, trace: Trace, **_: object) -> Iterator[str]:
    """Names are taken once; every run starts from one that there is; every constraint was estimated on what a run comes from."""
    runs = Lineage(pretrain, epochs, um, umap, oe)
    for name in runs.twice:
        yield f"runs: the name {name!r} is taken twice (among the runs of pretrain, um, umap, oe, and epochs). Rename one."
    if AUTO in runs:
        yield f"runs: {AUTO!r} can't be a run's name: detector.model: {AUTO} means the best of all. Rename it."
    if ALIGNED in runs:
        yield f"runs: {ALIGNED!r} can't be a run's name: it is the aligned encoder's as a model. Rename it."
    for name in RESERVED & set(runs.nodes):
        yield f"runs: {name!r} can't be a run's name: metrics/{name}.json is another file. Rename it."
    for name, epoch in epochs.root.items():
        if epoch.run not in pretrain.runs:
            yield f"epochs.{name}.run: no run {epoch.run!r} in pretrain.runs. Known: {known(pretrain.runs)}."
            continue
        last = pretrain.runs[epoch.run].over(pretrain.training).epochs
        if epoch.epoch is None:
            if sum(pretrain.keeps(n, last) for n in range(1, last + 1)) < 2 or pretrain.keep_epochs == 0:
                remedy = "Set pretrain.keep_epochs to 1" if last > 1 else "Take a run of more epochs"
                yield f"epochs.{name}.by: {epoch.run} keeps no epochs to choose from. {remedy}."
        elif epoch.epoch > last or not pretrain.keeps(epoch.epoch, last):
            kept = [str(n) for n in range(1, last + 1) if pretrain.keeps(n, last)]
            listed = ", ".join(kept) or "none"
            yield f"epochs.{name}.epoch: {epoch.run} keeps no epoch {epoch.epoch} (pretrain.keep_epochs). It keeps: {listed}."
    for name, run in runs.fine_tunes.items():
        key = f"{runs.nodes[name].key}.{name}"
        if run.init not in runs:
            yield f"{key}.init: {run.init!r} is no model to start from. Known: {known(runs.nodes)}."
        elif runs.in_a_circle(name):
            yield f"{key}.init: {' from '.join([*runs.line(name), name])}: a run can't start from itself. Change one of them."
        elif run.constraint not in (NO_CONSTRAINT, *mask.runs):
            yield f"{key}.constraint: no run {run.constraint!r} in mask.runs. Known: {known([*mask.runs, 'none'])}."
        elif (
            run.constraint != NO_CONSTRAINT
            and (found := mask.runs[run.constraint]).init in runs
            and found.init not in list(runs.line(name))[1:]
        ):
            yield (
                f"{key}.constraint: {run.constraint!r} was estimated on {found.init!r}, which this run doesn't come "
                f"from (it starts from {run.init!r}). Add a mask run with init: {run.init}, or change init."
            )
        if runs.complete(name):
            yield from _branch(key, run, runs.branch(name))
    for name, forgetful in um.runs.items():
        forget, masked = forgetful.forget, mask.runs.get(forgetful.constraint)
        if forget is not None and masked is not None and forget.over_epochs and mask.masking(masked).epochs is None:
            what = "share: null" if forget.share is None else f"by: {forget.by}"
            yield (
                f"um.runs.{name}.forget.{what}: that is found in the kept epochs, at which {forgetful.constraint!r} doesn't look. Set "
                f"mask.runs.{forgetful.constraint}.epochs, or give another."
            )
    for name, exposed in oe.runs.items():
        asked = [key for key in ("mine", "perturb") if getattr(exposed, key) is not None]
        if asked and runs.nodes[name].recipe.frozen:
            yield f"oe.runs.{name}.{asked[0]}: it is for features that change, and freeze: backbone keeps them. Take one of the two out."
    held = {name: runs.nodes[name].recipe.strong for name, run in runs.fine_tunes.items() if run.constrained}
    soft = [name for name, strong in held.items() if strong.label_smoothing or strong.softens_by_mixing]
    if soft:
        yield (
            f"{', '.join(soft)}: b is a loss on hard labels; with soft ones the loss never falls to it. Take label_smoothing, mixup and "
            "cutmix out of the training."
        )
    hinted = [name for name in runs.nodes if runs.complete(name) and runs.branch(name) == "confidence"]
    if soft := [name for name in hinted if (own := runs.nodes[name].recipe.strong).label_smoothing or own.softens_by_mixing]:
        yield (
            f"{', '.join(soft)}: a hint shows an image's one label; with soft ones there is none. Take label_smoothing, mixup and cutmix "
            "out of the training."
        )
    for name, pretraining in pretrain.runs.items():
        if pretraining.rotation is not None and runs.nodes[name].recipe.frozen:
            yield f"pretrain.runs.{name}.rotation: freeze: backbone keeps features of images that aren't turned. Take one out."
    trained = runs.trained()
    for name, masked in mask.runs.items():
        if name == NO_CONSTRAINT:
            yield f"mask.runs.{name}: 'none' says that there is no constraint. Rename the run."
        if masked.init not in trained:
            yield f"mask.runs.{name}.init: {masked.init!r} is no run that has been trained. Known: {known(trained)}."
        elif mask.masking(masked).epochs is not None and (masked.init not in pretrain.runs or pretrain.keep_epochs == 0):
            yield (
                f"mask.runs.{name}.epochs: {masked.init!r} keeps no epochs. Take a run of pretrain.runs and set pretrain.keep_epochs, or "
                "set epochs to null."
            )
    pretrained = {name for name in pretrain.runs if name in trained}
    for name in trace.runs:
        if name not in pretrained:
            yield f"trace.runs.{name}: not a pretraining run with at least one epoch. Known: {known(pretrained)}."
        elif not pretrain.runs[name].over(pretrain.training).epochs:
            yield f"trace.runs.{name}: it is taken as it is given (epochs: 0), so there are no epochs to trace. Take it out."
        elif pretrain.keep_epochs == 0:
            yield f"trace.runs.{name}: nothing to trace, pretrain.keep_epochs is 0. Set it to 1 or more."


def _branch(key: str, run: FineTune, branch: str | None) -> Iterator[str]:
    """A branch is trained by the objectives that know it, and by no other."""
    objective = run.objective if isinstance(run, OERun) else "um"
    if objective == "confidence" and branch != "confidence":
        yield f"{key}.objective: confidence, but {run.init!r} has no such branch. Start from a run of pretrain.runs with confidence."
    elif branch == "rotation":
        yield f"{key}.init: {run.init!r} has a rotation branch, which pretraining alone trains. Start from another run."
    elif branch == "confidence" and (objective not in ("confidence", "none") or run.constrained):
        yield (
            f"{key}.init: {run.init!r} has a confidence branch, which is trained by runs of oe with objective confidence or none, without "
            "a constraint. Start from another run."
        )


def _dreams(
    *,
    pretrain: Pretrain,
    diffusion: Diffusion,
    embed: Embed,
    synthesize: Synthesize,
    judge: Judge,
    oe: OE,
    data: Data,
    align: Align,
    models: Models,
    **_: object,
) -> Iterator[str]:
    if align.anchors is not None and not align.anchors.is_file():
        yield f"align.anchors: {align.anchors}: no such file. Correct the path, or set it to null."
    if not diffusion.enabled:
        needy = [key for key, runs in (("embed.runs", embed.runs), ("synthesize.runs", synthesize.runs)) if runs]
        needy += [f"oe.runs.{name}" for name, run in oe.runs.items() if run.dreamed is not None]
        needy += [f"models.{ALIGNED}"] if ALIGNED in models.root else []
        if needy:
            keys = ", ".join(needy)
            yield f"{keys}: needs DREAM-OOD, but diffusion.enabled is false. Empty or remove what is named here, or set it to true."
        return
    trained = [name for name, run in pretrain.runs.items() if run.weights or run.words or run.over(pretrain.training).epochs]
    if diffusion.model is None and diffusion.small.size < data.chain.side:
        side, size = data.chain.side, diffusion.small.size
        yield f"diffusion.small.size: it draws {size} pixels, but images have {side} (data.chain). Set it to {side} or more."
    if diffusion.model is None and not data.world:
        yield "data.world: empty, but diffusion.model is null: a model that has seen only ID classes paints only those. Add sources."
    if diffusion.model and diffusion.model.startswith((".", "/")) and not Path(diffusion.model).is_dir():
        yield f"diffusion.model: {diffusion.model}: no such folder. Give a hub id, an existing folder, or null."
    if judge.run not in trained:
        yield f"judge.run: {judge.run!r} is not a pretraining run with at least one epoch. Known: {known(trained)}."
    for name, painted in synthesize.runs.items():
        if name in ("align", "diffusion", "proofs") or name.startswith("embed-"):
            yield f"synthesize.runs.{name}: metrics/dream/{name}.json is another file. Rename the run."
        if painted.embed not in embed.runs:
            yield f"synthesize.runs.{name}.embed: no run {painted.embed!r} in embed.runs. Known: {known(embed.runs)}."
    for name, exposed in oe.runs.items():
        if exposed.dreamed is None:
            continue
        if exposed.dreamed not in synthesize.runs:
            yield f"oe.runs.{name}.outliers: no run {exposed.dreamed!r} in synthesize.runs. Known: {known(synthesize.runs)}."
            continue
        source = synthesize.runs[exposed.dreamed]
        mode = embed.runs[source.embed].mode if source.embed in embed.runs else None
        if mode and exposed.objective != "none" and (mode == "inlier") != (exposed.objective == "label"):
            wanted = "inlier" if exposed.objective == "label" else "outlier"
            yield f"oe.runs.{name}: objective {exposed.objective!r} needs dreamed {wanted}s, {exposed.dreamed!r} holds {mode}s. Change one."
        if exposed.per_class and exposed.per_class > source.count:
            yield f"oe.runs.{name}.per_class: {exposed.per_class} of each class, but {exposed.dreamed!r} paints {source.count}. Lower it."


def _words(classes: list[str] | None, *, pretrain: Pretrain, **_: object) -> Iterator[str]:
    """A head of words calls classes that there are, each by a name of its own, and no class is among the other words."""
    for run, own in ((name, run.words) for name, run in pretrain.runs.items() if run.words):
        yield from (
            f"pretrain.runs.{run}.words.names.{spelt(label)}: no such ID class. Known: {known(classes)}."
            for label in own.names
            if classes is not None and label not in classes
        )
        said = [own.name(label).lower() for label in classes or own.names]
        for name in sorted({name for name in said if said.count(name) > 1}):
            yield f"pretrain.runs.{run}.words.names: two ID classes are called {name!r}. Give each its own name."
        for name in own.negatives or []:
            if name.lower() in said:
                yield f"pretrain.runs.{run}.words.negatives: {name!r} is an ID class. Take it out."


def _prompts(
    classes: list[str] | None, *, prompts: Prompts, diffusion: Diffusion, embed: Embed, aligned: Aligned, **_: object
) -> Iterator[str]:
    """Every class has its own name in prompts, and its word stands in what the text encoder reads."""
    if not diffusion.enabled:
        return
    for key in ("names", "words"):
        for label in getattr(prompts, key):
            if classes is not None and label not in classes:
                yield f"prompts.{key}.{spelt(label)}: no such ID class. Known: {known(classes)}."
    beyond = []
    for label in classes or {**prompts.names, **prompts.words}:
        prompt, word = prompts.prompt(label), prompts.word(label)
        places = list(re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", prompt, re.IGNORECASE))
        if not places:
            yield f"prompts.words.{spelt(label)}: {word!r} isn't in the prompt {prompt!r}. Correct one of the two."
        elif len(PIECES.findall(prompt[: places[-1].start()])) >= READ - 2:  # between the marks of begin and end
            beyond.append(word)
    if beyond:
        more = f", and {len(beyond) - 1} more" if len(beyond) > 1 else ""
        yield f"prompts: {beyond[0]!r}{more}: beyond the {READ} tokens that the text encoder reads. Shorten prompts.template, or names."
    said = [prompts.name(label).lower() for label in classes or prompts.names]
    for name in sorted({name for name in said if said.count(name) > 1}):
        yield f"prompts.names: two ID classes are called {name!r}. Give each its own name."
    given = {f"embed.runs.{run}.names": setting.names or [] for run, setting in embed.runs.items()}
    given["aligned.negatives"] = aligned.negatives if isinstance(aligned.negatives, list) else []
    known_words = {*said, *(prompts.word(label).lower() for label in classes or prompts.names), *(label.lower() for label in classes or ())}
    for key, names in given.items():
        for name in names:
            if name.lower() in known_words:
                yield f"{key}: {name!r} is an ID class; outliers need other names. Take it out."


def _neighbours(
    training: int | None, *, scores: Scores, features: Features, models: Models, net: Net, pretrain: Pretrain, epochs: Epochs, um: UM,
    umap: UMAP, oe: OE, **_: object,
) -> Iterator[str]:  # fmt: skip
    """Scores that compare with training images have enough of them, and ViM's space leaves a rest of every net's features."""
    used = {*models.root.values()} | (set(get_args(ScoreName)) if scores.used is None else {*scores.used})
    for score, key in (("knn", "knn_k"), ("nnguide", "nnguide_k")):
        k = getattr(scores, key)
        if score in used and training is not None and k > min(training, features.train or training):
            asked = f"features.train leaves {features.train}" if features.train and features.train < training else f"there are {training}"
            yield f"scores.{key}: {k} neighbours, but {asked} training images. Lower it."
    runs = Lineage(pretrain, epochs, um, umap, oe)
    if "vim" in used and scores.vim_dim is not None:
        widths = {name: width for name in models.root if name in runs and (width := runs.net(name, net).features) is not None}
        least = min(widths, key=lambda name: widths[name], default=None)
        if least is not None and scores.vim_dim >= widths[least]:
            yield f"scores.vim_dim: {scores.vim_dim} dimensions leave nothing of the {widths[least]} features of {least}. Lower it."


def _thresholds(classes: list[str] | None, *, um: UM, umap: UMAP, oe: OE, **_: object) -> Iterator[str]:
    """A loss held at that of guessing among equal classes, or above it, teaches to know nothing; only levels that a run uses are read."""
    guessing = math.log(len(classes)) if classes else math.inf
    held: dict[str, float | None] = {}
    sections: list[tuple[str, UM | UMAP | OE, str, float | None]] = [
        ("um", um, "um", um.threshold), ("umap", umap, "umap", umap.threshold), ("oe", oe, "um", um.threshold)
    ]  # fmt: skip
    for key, section, stage, threshold in sections:
        for name, run in section.runs.items():
            if run.constrained:
                own = run.threshold is not None
                held[f"{key}.runs.{name}.threshold" if own else f"{stage}.threshold"] = run.given(threshold)
    for key, level in held.items():
        if level is not None and level >= guessing:
            yield f"{key}: {level} nats, but guessing among {len(classes or [])} classes has {guessing:.2f}. Lower it."

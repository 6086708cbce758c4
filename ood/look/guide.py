"""From a folder of pictures to a recipe that fits it: what is chosen, and why, in lines that stand above the recipe as well."""

import math
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from ood.config import Params
from ood.config.look import Asked
from ood.config.methods import OE, UM, UMAP, Mask, OERun
from ood.config.recipes import header, overlay
from ood.config.training import Pretrain, Seeds
from ood.data.reading import UnreadableError
from ood.detection import guarantee
from ood.errors import InputError
from ood.look import files
from ood.look.folder import Files, list_files

SHARE, FEW = 0.12, 5  # of the pictures that validate, that calibrate, and that test; of a class, fewer of which say little
LARGER, LEAST = 0.2, 10  # the share that validates and tests where the smallest class has few; the smallest class that can be split
CALIBRATING = 0.1  # the share that calibrates there
APART = 0.9  # of pictures that look like no other, counted on for a promise: of those that do, one of each group calibrates
REJECTED = (0.05, 0.1, 0.2)  # false-alarm rates of a detector, the first that calibration images can promise
STEPS, EPOCHS = 1500, (10, 60)  # a head's training on frozen features, in steps; fewest and most epochs
SAMPLED = 200  # files whose size is read
CUT = 256 / 224  # short side before the middle is cut out, as the network has learned
NEIGHBOURS = 10  # of knn_k and nnguide_k, as shipped
TESTS = 150  # spoilt pictures of a kind
START, SCORES = 4.0, 8.0  # seconds: a stage's start and a head's training; a model's scores (docs/networks.md)
USUAL = 650  # training pictures for which the epochs of recipes that train the whole network are written: fewer take more epochs
STEP = 3  # a training step of the whole network, in looks at its pictures: forward, and backward twice that
SURE = 0.95  # the confidence of a detector's promise, as shipped
LONG = 5400.0  # seconds from which on one seed is enough to begin with

# The recipes that fit themselves to a folder, and what each says of its network.
NETS = {
    "folder": "EfficientNet-Lite0, frozen: it needs no hub and no GPU, and every method trains a head on what it sees (docs/networks.md)",
    "folder-tuned": "EfficientNet-Lite0, the whole of it trained by every method: an evening without a GPU (docs/networks.md)",
    "folder-scratch": "ResNet-18 from nothing, for pictures that resemble no photograph; on photographs worth little (docs/networks.md)",
}

# Spoilt training pictures that stand in for auxiliary outliers, and the kinds that validation then keeps: none is in both.
SYNTHETIC, KEPT = ("arithmetic_mean", "jigsaw"), ("speckle", "pixelate", "ghost", "invert")


@dataclass(frozen=True)
class Known:
    """What the folders hold.

    listed: the ID files; counts: pictures of each class; short: middle short side, in pixels; outliers, unknown, far: pictures there.
    """

    listed: Files
    counts: dict[str, int]
    short: int
    outliers: int = 0
    unknown: int = 0
    far: int = 0

    @property
    def total(self) -> int:
        """ID pictures."""
        return sum(self.counts.values())


def survey(asked: Asked) -> Known:
    """List the folders and read the sizes of some pictures.

    Raises:
        InputError: a folder that is none, holds no pictures, or lies within another; fewer than two classes; a class too small to be split.
    """
    _apart(asked)
    listed = list_files(asked.images)
    paths, labels, classes, _ = listed
    if len(classes) < 2:
        raise InputError(f"--id {asked.images}: holds one class; a classifier needs at least two, as {asked.images}/<class>/<image>.")
    counts = dict(zip(classes, np.bincount(labels, minlength=len(classes)).tolist(), strict=True))
    small = [name for name, count in counts.items() if count < LEAST]
    if small:
        name = min(small, key=lambda name: counts[name])
        more = f" (and {len(small) - 1} more classes)" if len(small) > 1 else ""
        raise InputError(
            f"--id {asked.images}: class {name!r} has {counts[name]} pictures{more}; to train, validate and test it takes {LEAST}, "
            "and some dozens to say much. Add pictures, or take the class out."
        )
    others = [len(list_files(folder).paths) if folder else 0 for folder in (asked.outliers, asked.unknown, asked.far)]
    return Known(listed, counts, _middle(paths), *others)


def _apart(asked: Asked) -> None:
    """No folder is another one's, or in it: a picture plays one role."""
    given = {"--id": asked.images, "--outliers": asked.outliers, "--unknown": asked.unknown, "--far": asked.far}
    found = [(option, folder.resolve()) for option, folder in given.items() if folder]
    for option, folder in found:
        for other, around in found:
            if option != other and folder.is_relative_to(around):
                raise InputError(f"{option} {folder} lies within {other} {around}; no picture may play two roles. Move it out.")


def _middle(paths: list[Path]) -> int:
    """The median short side of some of the pictures."""
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(SAMPLED, len(paths))).astype(int))]
    sides = []
    for path in chosen:
        try:
            sides.append(files.read(path).short)
        except UnreadableError:  # `look` and `prepare` tell of these
            continue
    if not sides:
        raise InputError(f"{paths[0].parent}: none of {len(chosen)} pictures can be read. `python -m stages look` tells why.")
    return int(np.median(sides))


@dataclass
class Proposal:
    """A recipe that was made to fit. values: its overlay on params.yaml; lines: what was chosen, and why."""

    values: CommentedMap
    lines: list[str]

    def text(self) -> str:
        """The recipe, its choices in the first lines."""
        text = StringIO()
        _yaml().dump(self.values, text)
        return "\n".join([*(f"# {line}".rstrip() for line in self.lines), "", text.getvalue()])


def propose(name: str, asked: Asked, known: Known) -> Proposal:
    """The recipe of this name (one of NETS) with the folders in it, and in its first lines what was chosen and why."""
    recipe = overlay(name)
    values: CommentedMap = _yaml().load("\n".join(recipe.splitlines()[len(header(recipe)) :]))
    lines = [
        f"Your own photographs in {asked.images}: {known.total:,} pictures, {len(known.counts)} classes; `recipe {name}` chose",
        "",
        *_split(values, known),
        f"net: {NETS[name]}",
        *_size(values, asked, known),
        *_outliers(values, asked, known),
        *_unknown(values, asked, known),
        *_epochs(values, known),
    ]
    values["data"]["id"]["images"] = _flow(source="folder", path=asked.images.as_posix())
    values["look"] = CommentedMap(runs=CommentedMap(id=_flow(path=asked.images.as_posix())))
    return Proposal(values, lines)


def tell_time(proposal: Proposal, params: Params, known: Known, seconds: float | None, where: str) -> None:
    """Say how long it will take, and where that is long, begin with one seed.

    Args:
        params: the proposal's, applied. seconds: of reading and looking at a picture through its network; None: none could be read.
            where: on which device.
    """
    if seconds is None:
        proposal.lines.append(
            "time: not measured, for of the pictures that were tried none could be read; `python -m stages look` tells why"
        )
        return
    seeds = len(params[Seeds].root)
    took = seeds * seconds_of(params, known, seconds)
    if took > LONG and seeds > 1:
        proposal.values["seeds"] = _flow_list([0])
        proposal.lines.append(f"seeds: one to begin with; {seeds} take {_spoken(took)}")
        took, seeds = took / seeds, 1
    pictures, models = _pictures(params, known), len(params.raw["models"])
    proposal.lines.append(
        f"time: about {_spoken(took)} here on {where}: {pictures:,} pictures at {seconds:.3f} s (measured on yours), {models} models, "
        f"{seeds} seed{'s' if seeds > 1 else ''}"
    )


def seconds_of(params: Params, known: Known, seconds: float) -> float:
    """What a seed takes, roughly: pictures are read to be prepared; a frozen network looks at them once, another anew in every epoch."""
    pictures, models = _pictures(params, known), len(params.raw["models"])
    train = float(params.raw["data"]["id"]["split"]["train"]) * known.total
    sections: list[Pretrain | UM | UMAP | OE] = [params[Pretrain], params[UM], params[UMAP], params[OE]]
    runs, steps = models, 0.0
    for section in sections:
        for run in section.runs.values():
            recipe, beside = run.over(section.training), 0.0
            if isinstance(run, OERun) and run.objective != "none":
                beside = (run.outlier_batch or params[OE].outlier_batch) / recipe.batch_size
            runs += 1
            steps += 0 if recipe.frozen else recipe.epochs * train * (1 + beside)
    mask = params[Mask]
    masked = sum(2 * found.masks * train for found in map(mask.masking, mask.runs.values()) if found.layers == "all")
    looks = STEP * steps + masked + (models * pictures if steps else 0)
    return looks * seconds + 2 * pictures * seconds / len(params[Seeds].root) + (runs * START + models * SCORES) / 3


def _split(values: CommentedMap, known: Known) -> list[str]:
    least = min(known.counts.values())
    share, calibrating = (SHARE, SHARE) if least * SHARE >= FEW else (LARGER, CALIBRATING)
    fewest = max(1, min(FEW, math.floor(share * least)))
    train = round(1 - 2 * share - calibrating, 2)
    values["data"]["id"]["split"] = _flow(train=train, val=share, calibration=calibrating, test=share)
    values["data"]["min_per_class"] = fewest
    values["data"]["unreadable"] = "skip"  # `look` and `prepare` count them
    trained = int(train * known.total)
    if trained < 2 * NEIGHBOURS:
        values["scores"] = CommentedMap(knn_k=max(1, trained // 4), nnguide_k=max(1, trained // 4))
    few = "" if fewest >= FEW else f"; its figures per class mean little, for the smallest class has {least} pictures"
    shares = f"{train:.0%} train, {share:.0%} validate, {calibrating:.0%} calibrate, {share:.0%} test"
    return [f"split: {shares}{few}", *_detector(values, int(APART * sum(int(calibrating * count) for count in known.counts.values())))]


def _detector(values: CommentedMap, count: int) -> list[str]:
    """The strongest promise at the smallest rate that at least so many calibration images can keep."""
    kinds: tuple[guarantee.Guarantee, ...] = ("conditional", "marginal")
    for rate in REJECTED:
        for kind in kinds:
            if guarantee.rank(kind, count, rate, SURE):
                values["detector"] = CommentedMap(reject=rate, guarantee=kind)
                sure = f"with confidence {SURE:g}" if kind == "conditional" else "on average"
                return [f"detector: at most {rate:.0%} false alarms, {sure} ({kind}), on {count} calibration pictures"]
    values["detector"] = CommentedMap(model=None)
    return [f"detector: none, for {count} calibration pictures promise nothing below {REJECTED[-1]:.0%}; take pictures"]


def _size(values: CommentedMap, asked: Asked, known: Known) -> list[str]:
    chain, learned = values["data"]["chain"], "weights" in values["net"]
    usual = chain["size"]
    size = asked.size or usual
    chain["size"], chain["short"] = size, round(size * CUT)
    why = "what the network has learned with" if learned and size == usual else "the recipe's" if size == usual else "as asked"
    why += f"; the network has learned with {usual}" if learned and size != usual else ""
    enlarged = f"; yours have {known.short}, so they are enlarged" if known.short < size else ""
    return [f"size: {size} pixels, {why}{enlarged}"]


def _outliers(values: CommentedMap, asked: Asked, known: Known) -> list[str]:
    data = values["data"]
    if asked.outliers is not None:
        data["auxiliary"] = CommentedMap(others=_flow(source="folder", path=asked.outliers.as_posix()))
        return [f"outliers to train with: {known.outliers:,} pictures in {asked.outliers}"]
    data["auxiliary"] = CommentedMap({_named(kind): _spoilt(kind, 2 * TESTS) for kind in SYNTHETIC})
    data["validation"] = CommentedMap({_named(kind): _spoilt(kind, TESTS) for kind in KEPT})
    data["corrupted"] = CommentedMap()  # what is trained with doesn't test
    return [
        "outliers to train with: none given, so mixtures and jigsaws of training pictures stand in, and validation keeps the other kinds.",
        "  They teach little about things of another kind, and did harm where tried (docs/networks.md): read `oe` against `no-outliers`",
    ]


def _unknown(values: CommentedMap, asked: Asked, known: Known) -> list[str]:
    data, lines = values["data"], []
    if asked.far is not None:
        data["far"].insert(0, "unlike", _flow(source="folder", path=asked.far.as_posix()))
        lines.append(f"far things to test with: {known.far:,} pictures in {asked.far}, and noise")
    if asked.unknown is not None:
        data["near"] = CommentedMap(unknown=_flow(source="folder", path=asked.unknown.as_posix()))
        return [f"unknown things to test with: {known.unknown:,} pictures in {asked.unknown}", *lines]
    data["near"] = CommentedMap({"coloured-noise": _flow(source="noise", kind="blobs", count=100, blur=12.0)})
    alone = "" if asked.far else " alone"
    return [
        f"unknown things to test with: none given. Noise{alone} stands in, which every method finds: its figures promise nothing.",
        "  Some dozens of pictures of what will come one day (--unknown), which training never sees, say how good this is",
        *lines,
    ]


def _epochs(values: CommentedMap, known: Known) -> list[str]:
    training, usual = values["pretrain"]["training"], values["pretrain"]["training"]["epochs"]
    share = float(values["data"]["id"]["split"]["train"])
    a_pass = max(1, math.ceil(share * known.total / training["batch_size"]))
    if training.get("freeze") == "backbone":
        training["epochs"] = min(EPOCHS[1], max(EPOCHS[0], math.ceil(STEPS / a_pass)))
    else:
        training["epochs"] = min(6 * usual, max(math.ceil(usual / 3), round(usual * USUAL / (share * known.total))))
        for key in ("um", "umap", "oe"):  # in proportion
            values[key]["training"]["epochs"] = math.ceil(values[key]["training"]["epochs"] * training["epochs"] / usual)
    return [f"epochs: {training['epochs']}, about {training['epochs'] * a_pass:,} steps of {training['batch_size']} pictures each"]


def _pictures(params: Params, known: Known) -> int:
    """All that are looked at, the spoilt and the made-up ones among them."""
    data = params.raw["data"]
    split = data["id"]["split"]
    spoilt = sum(
        min(source["limit"], math.ceil(float(split[part]) * known.total))
        for role, part in (("auxiliary", "train"), ("validation", "val"))
        for source in data[role].values()
        if source["source"] == "corruption"
    )
    noise = sum(source.get("count", 0) for role in ("near", "far") for source in data[role].values())
    return known.total + known.outliers + known.unknown + known.far + spoilt + noise


def _spoken(seconds: float) -> str:
    return f"{math.ceil(seconds / 60)} minutes" if seconds < LONG else f"{seconds / 3600:.1f} hours"


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 10_000
    return yaml


def _named(kind: str) -> str:
    return kind.replace("_", "-")


def _spoilt(kind: str, limit: int) -> CommentedMap:
    return _flow(source="corruption", kind=kind, limit=limit)


def _flow(**values: Any) -> CommentedMap:
    """A mapping on one line."""
    found = CommentedMap(values)
    found.fa.set_flow_style()
    return found


def _flow_list(values: list) -> CommentedSeq:
    """A list on one line."""
    found = CommentedSeq(values)
    found.fa.set_flow_style()
    return found

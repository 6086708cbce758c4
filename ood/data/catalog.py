"""From the data section of params.yaml to the images of every role."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from ood.config.data import Data, Digits, Folder, Labelled, Source
from ood.config.text import Documents, Lines, Tsv
from ood.data import label_noise, near, roles
from ood.data.chain import ImageChain
from ood.data.items import ItemSet, Sets, rng_for
from ood.data.sources import arrays, corruptions, digits, folders, glyphs, noise, photos, texts, vision
from ood.data.texts import Words
from ood.errors import InputError

WATCHED = Path("images")  # a dependency of `prepare`
KEPT = Path("downloads")  # published data, which doesn't change
TRIES = 50  # orders that are drawn for a class whose near-duplicates stay together; the one nearest to the wanted sizes is taken
Listings = dict[str, Mapping[str, Sequence[object]]]  # a source's key -> class -> its files, or texts
ROLES = ("auxiliary", "validation", "near", "far", "world")
PARTS = {"train": "id/train", "val": "id/val", "calibration": "calibration/id", "test": "id/test"}  # of data.id.split -> the set's name
KEYS = {"id/test": "data.id.test", "calibration/id": "data.id.calibration"}  # what may have a source of its own


def build(data: Data, tick: Callable[[], None] = lambda: None) -> tuple[Sets, dict[str, int], list[str]]:
    """Every set by its name: id/train, id/val, id/test, calibration/id, auxiliary/*, validation/*, near/*, far/*, world/*, corrupted/*,
    shifted/*; native images, roles separated.

    Returns:
        The sets, how many images of each were dropped as duplicates (data.duplicates: drop), and what else a person should know.

    Raises:
        InputError: a source can't be read, an image plays two roles, a class has too few images.
    """
    chain = ImageChain(data.chain)
    notices: list[str] = []
    sets = _in_distribution(data, chain, tick, notices)
    sources = {f"{role}/{name}": source for role in ROLES for name, source in getattr(data, role).items()}
    for name, source in sources.items():
        if source.source != "corruption":
            sets[name] = _outliers(source, name, data, chain, tick)
            if name.startswith("world/"):
                sets[name] = replace(sets[name], words=sets[name].words or [name.removeprefix("world/")] * len(sets[name]))
            tick()
    for name, source in data.shifted.items():
        key, rng = f"shifted/{name}", rng_for(data.seed, f"shifted/{name}")
        sets[key] = folders.load_known(source, sets["id/train"].classes, data, chain, rng, tick)
    # Only then the corruptions: an image that gives way to a test image must not live on as validation OOD.
    sets, dropped = roles.separate(sets, data.duplicates)
    _enough(sets, data.min_per_class)
    # From here on training knows the given labels alone: outliers that are made of its images, too.
    sets["id/train"] = label_noise.spoil(sets["id/train"], data.id.label_noise, rng_for(data.seed, "label noise"))
    for name, source in sources.items():
        if source.source == "corruption":
            parents = sets["id/train" if name.startswith("auxiliary/") else "id/val"]
            sets[name] = corruptions.load(source, parents, chain, rng_for(data.seed, name))
    ours = [name for name in sets if name.startswith(("id/", "calibration/", "shifted/"))]
    sets, again = roles.separate({name: sets[name] for name in [*ours, *sources]}, data.duplicates)
    _enough(sets, data.min_per_class)
    notices += _without(sets)
    if sets["id/train"].true_labels is not None:
        notices.append(label_noise.told(sets["id/train"]))
    for name, source in data.corrupted.items():  # ID test images once more, for accuracy alone: they play no role of their own
        sets[f"corrupted/{name}"] = corruptions.load_labelled(source, sets["id/test"], chain, rng_for(data.seed, f"corrupted/{name}"))
    return sets, {name: dropped.get(name, 0) + again.get(name, 0) for name in {**dropped, **again}}, notices


class Facts(NamedTuple):
    """What is known of ID before an image is read. classes: their names; training, calibration: how many images each; None: not known."""

    classes: list[str] | None
    training: int | None
    calibration: int | None


def check(data: Data) -> Facts:
    """What can be known without reading an image: folders, classes, how many images each has, fonts, characters, memory.

    Raises:
        InputError: every problem found, a line each, with key and remedy.
    """
    listings: Listings = {}
    problems = list(_problems(data, listings))
    counts = _counts("data.id.images", data.id.images, listings)
    problems += _too_few(counts, data)
    if not problems:
        problems += _too_large(listings, data)
    if problems:
        raise InputError("\n".join(f"params.yaml: {problem}" for problem in problems))
    if not counts:
        return Facts(None, None, None)
    shares = [shares_of(count, data) for count in counts.values()]
    calibration: int | None = sum(share["calibration"] for share in shares)
    if data.id.calibration is not None:
        calibration = sum(_counts("data.id.calibration", data.id.calibration, listings).values()) or None
    return Facts(list(counts), sum(share["train"] for share in shares), calibration)


def unwatched(data: Data, looked: dict[str, Path], networks: dict[str, Path]) -> Iterator[str]:
    """Folders of images, texts, and networks whose changes DVC doesn't see: those outside WATCHED, and what is linked into it.

    Args:
        looked: key -> folder of `look`'s runs. networks: key -> folder or file of a given network.
    """
    read = Folder | Tsv | Lines | Documents
    sources = {key: ("prepare", source.path) for key, source in data.sources().items() if isinstance(source, read)}
    if data.id.label_noise.path is not None:
        sources["data.id.label_noise"] = ("prepare", data.id.label_noise.path)
    sources |= {key: (f"look@{key.split('.')[-1]}", path) for key, path in looked.items()}
    given = networks | ({"data.text.tokenizer": Path(data.text.tokenizer)} if data.text.tokenizer else {})
    sources |= {key: ("check", path) for key, path in given.items() if path.exists()}
    for key, (stage, path) in sources.items():
        again = f"After a change there run `dvc repro -f {stage}`."
        place = Path(os.path.abspath(path))
        if place.is_relative_to(Path(os.path.abspath(WATCHED))):
            links = (Path(folder) / name for folder, names, _ in os.walk(path) for name in names)
            link = next((link for link in links if link.is_symlink()), None)
            if link is not None:
                yield f"{key}.path: {link} is a link to a folder, behind which DVC doesn't look. {again}"
        elif not place.is_relative_to(Path(os.path.abspath(KEPT))):
            yield f"{key if key in given else f'{key}.path'}: {path} lies outside {WATCHED}/, which DVC watches. {again}"


def _problems(data: Data, listings: Listings) -> Iterator[str]:
    """Everything but numbers; fills `listings`."""
    for key, source in data.sources().items():
        try:
            if source.source == "folder":
                listings[key] = folders.list_images(source).classes
            elif source.source == "array":
                arrays.check(source.path)
            elif isinstance(source, Tsv | Lines | Documents):
                listings[key] = texts.listed(source)
            elif source.source in ("torchvision", "pytorch-ood") and not source.download and not source.root.is_dir():
                yield f"{key}.root: {source.root}: no such folder, and download is false. Put the files there, or set download to true."
        except InputError as error:
            yield f"{key}.path: {error}"
    if data.is_text and data.text.tokenizer is not None:
        try:
            Words.given(data.text)
        except InputError as error:
            yield str(error)
    images, own = data.id.images, listings.get("data.id.images")
    if own is not None and isinstance(images, Folder | Tsv | Documents) and len(own) < 2:
        yield f"data.id.images.path: {images.path} holds one class; a classifier needs at least two."
    for key in KEYS.values():
        other = listings.get(key)
        if own is not None and other is not None and not _agree(list(other), list(own), data):
            odd = sorted(other.keys() - own.keys()) or sorted(own.keys() - other.keys())
            yield f"{key}: its classes differ from those of data.id.images (first: {odd[0]}); they must agree."
    classes = list(own) if own is not None else data.id_classes()
    noise = data.id.label_noise
    if noise.path is not None and not noise.path.is_file():
        yield f"data.id.label_noise.path: {noise.path}: no such file. Correct the path."
    odd = [name for pair in (noise.pairs or {}).items() for name in pair if classes is not None and name not in classes]
    if odd:
        yield f"data.id.label_noise.pairs: no class {odd[0]!r}. Known: {', '.join(classes or [])}."
    for name, source in data.shifted.items():
        if source.numbered is not None and not source.numbered.is_dir():
            yield f"data.shifted.{name}.numbered: {source.numbered}: no such folder. Correct the path."
        elif classes is not None and f"data.shifted.{name}" in listings:
            yield from _said(f"data.shifted.{name}", partial(folders.known, source, classes))
    for role in ROLES:
        for name, source in getattr(data, role).items():
            if source.source == "corruption" and classes is not None:
                yield from _said(f"data.{role}.{name}", partial(corruptions.labels_of, source, classes))
            if source.source == "glyphs":
                key = f"data.{role}.{name}"
                yield from _said(None, partial(glyphs.check, source, key))
                if role == "world":
                    yield from _said(None, partial(glyphs.check_words, source, key))


def _said(key: str | None, question: Callable[[], object]) -> Iterator[str]:
    """What a question's InputError says, if it raises one."""
    try:
        question()
    except InputError as error:
        yield str(error) if key is None else f"{key}: {error}"


def _counts(key: str, images: Labelled, listings: Listings) -> dict[str, int]:
    """ID class -> how many images a source has of it; empty where only reading them tells."""
    if isinstance(images, Digits):
        return {str(digit): digits.COUNTS[digit] for digit in images.classes}
    listing = listings.get(key)
    if listing is None or not isinstance(images, Folder | Tsv | Documents):
        return {}
    return dict(zip(listing, folders.even([len(files) for files in listing.values()], images.limit), strict=True))


def shares_of(count: int, data: Data) -> dict[str, int]:
    """How many of a class's images are for each of PARTS."""
    return dict(zip(PARTS, np.diff([0, *_cuts(count, data.id.split.shares), count]).tolist(), strict=True))


def _too_few(counts: dict[str, int], data: Data) -> Iterator[str]:
    """Classes that are too small to be split."""
    parts = ["train", "val", "test"][: 3 if data.id.test is None else 2]
    small = [
        (name, count, part, got)
        for name, count in counts.items()
        for part, got in shares_of(count, data).items()
        if part in parts and got < max(data.min_per_class, int(part == "train"))
    ]
    if small:
        name, count, part, got = small[0]
        more = len({name for name, *_ in small}) - 1
        wanted = max(data.min_per_class, int(part == "train"))
        yield (
            f"data.id.images: class {name!r} has {count} images, of which {got} are for {part}; data.min_per_class asks for {wanted}"
            f"{f' (and {more} more classes)' if more else ''}. Add images, change data.id.split, or lower data.min_per_class."
        )


def _too_large(listings: Listings, data: Data) -> Iterator[str]:
    """Sets that this machine's memory can't hold, where all that are packed must be held at once."""
    chain, counts = data.chain, {}
    for key, source in data.sources().items():
        if key in listings:
            sizes, limit = [len(files) for files in listings[key].values()], getattr(source, "limit", None)
            counts[key] = 0 if data.stream else sum(folders.even(sizes, limit))
        else:
            counts[key] = getattr(source, "count", None) or 0
    each = 4 * data.text.length if data.is_text else chain.size**2 * (1 if chain.grey else 3) + chain.side**2 * 3
    needed, there = sum(counts.values()) * each, psutil.virtual_memory().total
    if needed > there:
        most = max(counts, key=lambda key: counts[key])
        yield (
            f"{most}: {counts[most]:,} images; all sets together need {needed / 2**30:,.0f} GiB of memory, and this machine has "
            f"{there / 2**30:,.0f}. Lower count or limit, or set data.stream to true: then pictures stay in their files."
        )


def _in_distribution(data: Data, chain: ImageChain, tick: Callable[[], None], notices: list[str]) -> Sets:
    rng, looking = rng_for(data.seed, "id"), data.near_duplicates == "together"
    images = roles.one_class_each(_labelled(data.id.images, data, chain, rng, tick, looks=looking), data.duplicates)
    found = near.pairs(images) if looking else near.NONE
    units = near.units(found, images.labels)
    parts = dict(zip(PARTS.values(), _stratified(images.labels, data.id.split.shares, rng, units), strict=True))
    held = parts.pop(PARTS["calibration"])
    sets = {name: images.take(index) for name, index in parts.items()}
    for name in ("id/val", "id/test"):
        sets[name] = replace(sets[name], skipped={})  # counted once, with id/train
    calibration = PARTS["calibration"]
    if len(held):
        sets[calibration] = near.one_of_each(replace(images.take(held), skipped={}), units[held])
    notices += near.told(images, found, units)
    own = {"id/test": data.id.test, calibration: data.id.calibration}
    for name, source in own.items():
        if source is not None:
            own_images = roles.one_class_each(_labelled(source, data, chain, rng, tick, looks=looking), data.duplicates)
            sets[name] = _of_classes(own_images, images.classes, name, data)
    if data.id.calibration is not None and looking:  # even where most of a class is alike: nothing is split here
        images = sets[calibration]
        sets[calibration] = near.one_of_each(images, near.groups(near.pairs(images), images.labels))
    if looking:
        notices += [notice for name, source in own.items() if source is not None for notice in near.told_across(sets, name)]
    return sets


def _of_classes(images: ItemSet, classes: list[str], name: str, data: Data) -> ItemSet:
    """ID images from a source of their own, labelled as training's are."""
    if not _agree(images.classes, classes, data):
        raise InputError(f"params.yaml: {KEYS[name]}: its classes differ from those of data.id.images; they must agree.")
    places = np.array([classes.index(name) for name in images.classes], np.int64)
    return replace(images, labels=places[images.labels], classes=classes)


def _agree(test: list[str], own: list[str], data: Data) -> bool:
    """Whether images from a source of their own have ID's classes: all of them, unless a class may have none."""
    return test == own if data.min_per_class else set(test) <= set(own)


def _enough(sets: Sets, least: int) -> None:
    classes = sets["id/train"].classes
    if len(classes) < 2:
        raise InputError(f"data.id.images: one class ({', '.join(classes)}); a classifier needs at least two. Add another.")
    for name in ("id/train", "id/val", "id/test"):
        counts = np.bincount(sets[name].labels, minlength=len(classes))
        if not len(sets[name]):
            raise InputError(f"{name}: nothing is left for it. Add images, or change data.id.split.")
        if counts.min() < (wanted := max(least, int(name == "id/train"))):
            raise InputError(
                f"class {classes[int(counts.argmin())]!r} has {counts.min()} images in {name}, data.min_per_class asks for {wanted}. "
                "Add images, change data.id.split, or lower data.min_per_class."
            )


def _without(sets: Sets) -> Iterator[str]:
    """Which parts lack classes, where that is allowed."""
    for name in ("id/val", "id/test", PARTS["calibration"]):
        if name in sets and len(sets[name]):
            lacking = len(sets[name].classes) - len(np.unique(sets[name].labels))
            if lacking:
                yield f"{name}: nothing of {lacking} of the {len(sets[name].classes)} classes"


def _labelled(
    source: Labelled, data: Data, chain: ImageChain, rng: np.random.Generator, tick: Callable[[], None], *, looks: bool = False
) -> ItemSet:
    if source.source == "digits":
        return digits.load(source, chain)
    if source.source == "folder":
        return folders.load(source, data, chain, rng, tick, looks=looks)
    if isinstance(source, Tsv | Documents):
        return texts.load(source, data.text, rng, skip=data.unreadable == "skip")
    return vision.load(source, chain, rng, tick)


def _outliers(source: Source, name: str, data: Data, chain: ImageChain, tick: Callable[[], None]) -> ItemSet:
    assert source.source != "corruption"  # `build` makes these of ID images, when the roles are separated
    rng = rng_for(data.seed, name)
    match source.source:
        case "glyphs":
            return glyphs.load(source, chain, rng)
        case "photo":
            return photos.load(source, chain, rng)
        case "noise":
            return noise.load(source, chain, rng)
        case "array":
            return arrays.load(source, chain, rng)
        case "pytorch-ood":
            return vision.load_outliers(source, chain, rng, tick)
        case "lines":
            return texts.load(source, data.text, rng, skip=data.unreadable == "skip")
        case _:
            images = _labelled(source, data, chain, rng, tick)
            return ItemSet(
                images.images,
                np.full(len(images), -1, np.int64),
                images.names,
                images.keys,
                words=[images.classes[label] for label in images.labels],
                skipped=images.skipped,
            )


def _stratified(labels: np.ndarray, shares: list[float], rng: np.random.Generator, units: np.ndarray) -> list[np.ndarray]:
    """Indices of each share, drawn class by class, so that every part has the classes in the same proportion.

    Args:
        units: a number per image; those of one class with the same number stay on one side.
    """
    parts: list[list[int]] = [[] for _ in shares]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        wanted = _cuts(len(members), shares)
        drawn, cuts = rng.permutation(members), wanted
        if len(np.unique(units[members])) < len(members):
            tries = [near.together(drawn, units, wanted)]
            tries += [near.together(rng.permutation(members), units, wanted) for _ in range(TRIES)]
            drawn, cuts = min(tries, key=lambda tried: np.abs(np.subtract(tried[1], wanted)).max(initial=0))
        for part, piece in zip(parts, np.split(drawn, cuts), strict=True):
            part.extend(piece.tolist())
    return [np.sort(np.array(part, dtype=np.int64)) for part in parts]


def _cuts(count: int, shares: list[float]) -> list[int]:
    """Where a class of so many images is cut."""
    return np.rint(np.cumsum(shares)[:-1] * count).astype(int).tolist()

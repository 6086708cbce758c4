"""No image may play two roles: the check that keeps a benchmark honest."""

from dataclasses import replace
from itertools import combinations

import numpy as np

from ood.data.items import ItemSet, Sets
from ood.errors import InputError

# A duplicate is dropped from the role that comes later here: training gives way to testing.
PRECEDENCE = ("test", "id/test", "calibration", "id/val", "validation", "id/train", "auxiliary", "world")


def role_of(name: str) -> str:
    """The role of a set by its name: near- and far-OOD are one role, the four parts of ID are four; shifted is as id/test."""
    head = name.split("/")[0]
    return {"near": "test", "far": "test", "shifted": "id/test", "id": name}.get(head, head)


def _test_sets_count_once(sets: Sets) -> None:
    """Near- and far-OOD are one role and may share an image, but the same set under two names would count twice in every mean."""
    tests = {name: set(items.hashes()) for name, items in sets.items() if role_of(name) == "test"}
    for one, other in combinations(sorted(tests), 2):
        shared = len(tests[one] & tests[other]) / max(1, min(len(tests[one]), len(tests[other])))
        if shared > 0.5:
            raise InputError(
                f"{one} and {other} are the same images ({shared:.0%} of the smaller set are in the other): a test set counts once. "
                f"Remove one of the two under data.near and data.far."
            )


def _both_train(mark: str, one: str, other: str) -> bool:
    """A font may serve auxiliary outliers and the captioned world: both are there to learn from. Their shapes stay apart."""
    return mark.startswith("font:") and {one, other} == {"auxiliary", "world"}


def one_class_each(images: ItemSet, duplicates: str) -> ItemSet:
    """ID images, none of which stands under two classes.

    Args:
        duplicates: 'error' raises, 'drop' removes it from all of them: nobody knows which is right.

    Raises:
        InputError: naming an image and both classes.
    """
    first: dict[str, int] = {}
    twice = set()
    for i, digest in enumerate(images.hashes()):
        other = first.setdefault(digest, i)
        if images.labels[i] != images.labels[other]:
            twice.add(digest)
            if duplicates == "error":
                one, two = images.classes[images.labels[i]], images.classes[images.labels[other]]
                raise InputError(
                    f"{images.names[i]} is the same image as {images.names[other]}, but another class ({one!r}, {two!r}). Remove one of "
                    "the two, or set data.duplicates to drop: then both go."
                )
    if not twice:
        return images
    kept = images.take(np.array([i for i, digest in enumerate(images.hashes()) if digest not in twice], np.int64))
    return replace(kept, skipped={**kept.skipped, "under two classes": len(images) - len(kept)})


def separate(sets: Sets, duplicates: str) -> tuple[Sets, dict[str, int]]:
    """Make sure that no provenance key and no content stands in two roles.

    Args:
        duplicates: 'error' raises, 'drop' removes the image from the role where it matters less (PRECEDENCE).

    Returns:
        The sets, and how many images were dropped from each.

    Raises:
        InputError: naming both sets and the image, or the set that nothing is left of; or two test sets that are the same images.
    """
    _test_sets_count_once(sets)
    owner: dict[str, tuple[str, str]] = {}
    kept, dropped = {}, {}
    for name in sorted(sets, key=lambda name: PRECEDENCE.index(role_of(name))):
        role, items, clean = role_of(name), sets[name], []
        for i, (item, keys, digest) in enumerate(zip(items.names, items.keys, items.hashes(), strict=True)):
            marks = [*keys, f"content:{digest}"]
            held = ((mark, owner.get(mark, (role, ""))[0]) for mark in marks)
            clash = next((mark for mark, other in held if other != role and not _both_train(mark, role, other)), None)
            if clash is None:
                clean.append(i)
                owner.update((mark, (role, name)) for mark in marks if mark not in owner)
            elif duplicates == "error":
                what = "the same image" if clash.startswith("content:") else f"the same provenance ({clash})"
                raise InputError(
                    f"{item} in {name} has {what} as an image in {owner[clash][1]}: no image may play two roles. Change one of "
                    "the two sources, or set data.duplicates to drop."
                )
        if len(items) and not clean:
            raise InputError(f"{name}: every image of it stands in another role too. Change its source.")
        kept[name] = items if len(clean) == len(items) else items.take(np.array(clean))
        if len(clean) < len(items):
            dropped[name] = len(items) - len(clean)
    return {name: kept[name] for name in sets}, dropped

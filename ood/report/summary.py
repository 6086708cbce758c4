"""What the report says first, in plain words: what was asked, what came out, what to beware of; and last, how far it reaches."""

import numpy as np

from ood.config import Params
from ood.config.evaluation import Evaluate
from ood.config.training import Seeds
from ood.evaluation.groups import group_of
from ood.report import data, unmask
from ood.report.blocks import Block, Text
from ood.report.comparison import pairs_of
from ood.report.measured import Measured
from ood.report.tables import PERCENT, Change, changes, groups_in, siblings_of


def what_was_asked(measured: Measured, params: Params) -> list[Text]:
    """ID, OOD, seeds."""
    manifest, groups = measured.manifest, groups_in(measured.shown)
    classes = manifest["id/train"]["classes"]
    counts = ", ".join(f"{name} {entry['count']}" for name, entry in manifest.items() if group_of(name) in groups)
    parts = []
    if groups == ["validation"]:
        parts.append(Text("**Validation figures only** (`evaluate.roles: [val]`): no figure on test images was computed.", warning=True))
    parts.append(
        Text(
            f"ID: {len(classes)} classes ({', '.join(classes)}), {manifest['id/train']['count']} images to train, "
            f"{manifest['id/val']['count']} to validate, {manifest['id/test']['count']} to test. OOD: {counts}. "
            f"Seeds: {', '.join(map(str, params[Seeds].root))}; figures are percent, mean ± standard deviation over seeds."
        )
    )
    return parts


def in_words(measured: Measured, params: Params) -> list[Block]:
    """The page's beginning."""
    manifest, models = measured.manifest, len(measured.results)
    classes = len(manifest["id/train"]["classes"])
    sets = sum(group_of(name) in ("near", "far") for name in manifest)
    asked = Text(
        f"{models} classifiers were trained on {manifest['id/train']['count']} images of {classes} classes, and asked of pictures that are "
        f"none of these whether they know that they don't know: {sets} test sets, none of which anything was chosen on."
    )
    return [asked, *usable(measured), *helped(measured, params), *cautions(measured, params)]


def usable(measured: Measured) -> list[Text]:
    """What the detector does, as rates that one can picture."""
    found, figures = measured.detector, measured.operating
    if found is None or figures is None:
        return []
    caught = {group: np.mean([one["caught"] for one in figures[group].values()]) for group in ("near", "far") if figures[group]}
    shares = " and ".join(f"{PERCENT * share:.0f} of 100 {group}-OOD images" for group, share in caught.items())
    inside = figures["id"]
    return [
        Text(
            f"**The detector** is `{found.model}` with the score `{found.score}`, chosen on validation data. It is right on "
            f'{inside["accuracy"]:.1%} of the ID test images and says "unknown" to {inside["flagged"]:.1%} of them (at most '
            f"{found.reject:.1%} may be, {found.guarantee} guarantee); it says so to {shares}."
        )
    ]


def helped(measured: Measured, params: Params) -> list[Text]:
    """Which methods did, against their controls."""
    siblings = siblings_of(measured.manifest)
    found = changes(measured.shown, pairs_of(measured, params), siblings)
    if not found:
        return []
    seeds = len(params[Seeds].root)
    if seeds < 2:
        return [Text("With one seed nothing can be said of methods against controls: give more `seeds`.", warning=True)]
    titles = {"every seed better": "Better than their control for every seed", "every seed worse": "Worse for every seed"}
    said = [
        f"**{title}:** {_listed([change for change in found if change.verdict == key])}."
        for key, title in {**titles, "seeds differ": "No clear difference"}.items()
        if any(change.verdict == key for change in found)
    ]
    where = " on the test sets without a sibling among what was trained with" if found[0].unrelated is not None else ""
    chance = 2.0 ** (1 - seeds)
    return [
        Text(
            f"**What the methods' ideas are worth**, in points of AUROC on their own scores, mean over groups{where}: {' '.join(said)} "
            f"Where an idea does nothing at all, {seeds} seeds still agree with probability {chance:.2g}."
        )
    ]


def _listed(found: list[Change]) -> str:
    ranked = sorted(found, key=lambda change: -abs(change.points.mean()))
    return ", ".join(f"`{change.method}` ({change.points.mean():+.1f})" for change in ranked)


def cautions(measured: Measured, params: Params) -> list[Text]:
    """What speaks against figures on the page."""
    found = [text for text in what_was_asked(measured, params) if text.warning] + data.warnings(measured.manifest)
    found += [Text(text.said, warning=True) for text in unmask.texts(measured, params) if "**" in text.said]
    found += blind(measured)
    if measured.withheld:
        found.append(
            Text(f"No figure is shown of {', '.join(measured.withheld)}: the painter hasn't learned the ID classes.", warning=True)
        )
    return found


def blind(measured: Measured) -> list[Text]:
    """OOD sets of which the detector may catch no more than it flags of ID."""
    found, figures = measured.detector, measured.operating
    if found is None or figures is None:
        return []
    sets = {name: one for group in ("near", "far") for name, one in figures[group].items() if one["low"] <= found.reject}
    if not sets:
        return []
    caught = ", ".join(f"{name} ({one['caught']:.1%})" for name, one in sets.items())
    return [Text(f"The detector is all but blind to {caught}: it may flag as many of ID. Look at what it accepts, below.", warning=True)]


def limits(measured: Measured, params: Params) -> list[Block]:
    """How far the figures reach."""
    manifest, seeds = measured.manifest, len(params[Seeds].root)
    tested, siblings = manifest["id/test"]["count"], siblings_of(measured.manifest)
    said = [
        f"ID test has {tested} images: one image is {PERCENT / tested:.2g} points of accuracy and of every rate on ID.",
        f"Spreads are over {seeds} seed{'s' if seeds > 1 else ''} of the classifiers on one split of the data; intervals resample test "
        f"images ({params[Evaluate].bootstrap} times). Neither says what other data would bring.",
        "OOD is whatever one tests with. These figures hold for the sets named here and say little of others: a score that is best on one "
        "kind of picture may be blind to another.",
    ]
    if siblings:
        said.append(f"Easier than they look, for runs that saw their kind: {', '.join(sorted(siblings))} (†).")
    if measured.detector is not None:
        said.append(
            "The detector's guarantee is about ID images that come as its calibration images came: the same camera, the same mix of "
            "classes. It promises nothing of how much OOD is caught, and nothing where pictures drift: `atypical predict --watch` looks "
            "for that."
        )
    if measured.dreams is not None:
        said.append("One painter, one set of dreams for all seeds: their spread doesn't hold the painter's own.")
    return [Text(text) for text in said]

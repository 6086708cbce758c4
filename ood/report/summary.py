"""What the report says first, in plain words: what was asked, what came out, what to beware of; and last, how far it reaches."""

import numpy as np

from ood.config import Params
from ood.config.evaluation import Evaluate
from ood.config.training import Seeds
from ood.evaluation.groups import group_of
from ood.report import data
from ood.report.blocks import Block, Text
from ood.report.comparison import pairs_of
from ood.report.measured import Measured
from ood.report.tables import PERCENT, RESOLUTION, Change, changes, groups_in, siblings_of, values

FEW, CHANCE = 12, 50.0  # classes that are named; percent


def what_was_asked(measured: Measured, params: Params) -> list[Text]:
    """ID and OOD."""
    manifest, groups = measured.manifest, groups_in(measured.shown)
    classes = list(manifest["id/train"]["classes"])
    named = ", ".join(classes[:FEW]) + (f" and {len(classes) - FEW} more" if len(classes) > FEW else "")
    counts = ", ".join(f"{name} {entry['count']}" for name, entry in manifest.items() if group_of(name) in groups)
    text = Text(
        f"ID: {len(classes)} classes ({named}), {manifest['id/train']['count']} images to train, {manifest['id/val']['count']} to "
        f"validate, {manifest['id/test']['count']} to test. OOD: {counts}."
    )
    return [*validation_only(measured), text]


def validation_only(measured: Measured) -> list[Text]:
    """Where no test figure was asked for, that."""
    if groups_in(measured.shown) != ["validation"]:
        return []
    said = "**Validation figures only** (`evaluate.roles: [val]`): no test figure was computed. Scores were picked on these very sets."
    return [Text(said, warning=True)]


def in_words(measured: Measured, params: Params) -> list[Block]:
    """The page's beginning."""
    manifest, models, seeds = measured.manifest, len(measured.results), len(params[Seeds].root)
    groups = groups_in(measured.shown)
    sets = sum(group_of(name) in groups for name in manifest)
    asked = "test sets, none of which anything was chosen on" if groups != ["validation"] else "validation sets"
    times = f" {seeds} times" if seeds > 1 else ""
    text = Text(
        f"{models} kinds of classifier, each trained{times}, know {len(manifest['id/train']['classes'])} classes from "
        f"{manifest['id/train']['count']} images of them. They were asked of pictures that are none of these whether they know that they "
        f"don't know: {sets} {asked}."
    )
    return [*validation_only(measured), text, *usable(measured), *helped(measured, params), *cautions(measured)]


def usable(measured: Measured) -> list[Text]:
    """What the detector does, as rates that one can picture."""
    found, figures = measured.detector, measured.operating
    if found is None or figures is None:
        return []
    caught = {group: np.mean([one["caught"] for one in figures[group].values()]) for group in ("near", "far") if figures[group]}
    shares = " and ".join(f"{PERCENT * share:.0f} of 100 {group}-OOD images" for group, share in caught.items())
    inside, chosen = figures["id"], "chosen on validation data" if found.picked else "named in `params.yaml`"
    return [
        Text(
            f"**The detector** is `{found.model}` with the score `{found.score}`, {chosen}. It is right on {inside['accuracy']:.1%} of the "
            f'ID test images and says "unknown" to {inside["flagged"]:.1%} of them (at most {PERCENT * found.reject:g}% may be, '
            f"{found.guarantee} guarantee)" + (f"; it says so to {shares}." if shares else ".")
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
    titles = {
        "every seed better": "Better than their control for every seed",
        "every seed worse": "Worse for every seed",
        "seeds differ": f"Seeds differ, or by less than {RESOLUTION:g} points",
    }
    said = [
        f"**{title}:** {_listed([change for change in found if change.verdict == key])}."
        for key, title in titles.items()
        if any(change.verdict == key for change in found)
    ]
    where = " on the test sets without a sibling among what was trained with" if found[0].unrelated is not None else ""
    chance = len(found) * 2.0 ** (1 - seeds)
    return [
        Text(
            f"**What the methods bring**, in points of AUROC over their controls, each on its own score, mean over groups{where}: "
            f"{' '.join(said)} Were all ideas worthless, the seeds of about {chance:.2g} of these {len(found)} comparisons would still "
            "agree."
        )
    ]


def _listed(found: list[Change]) -> str:
    ranked = sorted(found, key=lambda change: -abs(change.points.mean()))
    return ", ".join(f"`{change.method}` ({change.points.mean():+.1f})" for change in ranked)


def cautions(measured: Measured) -> list[Text]:
    """What speaks against figures on the page."""
    said = []
    if destroyed := [run for run, figures in measured.masks.items() if figures["destroyed"]]:
        said.append(f"The masks of {', '.join(destroyed)} have destroyed their network: that constraint means nothing.")
    if fresh := [run for run, figures in measured.masks.items() if figures["memorised"] != 1]:
        said.append(f"What the masks of {', '.join(fresh)} are put on has not memorised its training set: there is little to forget.")
    if measured.withheld:
        text = (
            f"The painter hasn't learned the ID classes: no figure says anything of {', '.join(measured.withheld)}, and none is compared."
        )
        if measured.detector is not None and measured.detector.model in measured.withheld:
            text += " The detector is one of these; name another model (`detector.model`)."
        said.append(text)
    told = [Text(text, warning=True) for text in said]
    return [*data.warnings(measured.manifest), *blind(measured), *below_chance(measured), *told]


def below_chance(measured: Measured) -> list[Text]:
    """Models whose own score takes OOD for more ID than ID."""
    results = measured.shown
    found = [
        f"{model} ({summary['own']}, {group}: {mean:.1f})"
        for model, summary in results.items()
        for group in groups_in(results)
        if (mean := values(summary, summary["own"], group, "auroc").mean()) < CHANCE
    ]
    return [Text(f"Worse than tossing a coin, by AUROC: {', '.join(found)}.", warning=True)] if found else []


def blind(measured: Measured) -> list[Text]:
    """OOD sets of which the detector may catch no more than it flags of ID."""
    found, figures = measured.detector, measured.operating
    if found is None or figures is None:
        return []
    sets = {
        name: one
        for group in ("near", "far")
        for name, one in figures[group].items()
        if one["low"] <= found.reject and one["caught"] <= 2 * found.reject
    }
    if not sets:
        return []
    caught = ", ".join(f"{name} ({one['caught']:.1%})" for name, one in sets.items())
    return [Text(f"The detector is all but blind to {caught}: it may flag as many of ID. Look at what it accepts, below.", warning=True)]


def limits(measured: Measured, params: Params) -> list[Block]:
    """How far the figures reach."""
    manifest, seeds, resamples = measured.manifest, len(params[Seeds].root), params[Evaluate].bootstrap
    siblings, role = siblings_of(measured.manifest), "val" if groups_in(measured.shown) == ["validation"] else "test"
    count = manifest[f"id/{role}"]["count"]
    spread = (
        f"Spreads are over {seeds} seeds of the classifiers on one split of the data. "
        if seeds > 1
        else "There is one seed, and no spread. "
    )
    spread += f"Bootstrap intervals resample {role} images, {resamples} times. " if resamples else ""
    said = [
        f"ID {role} has {count} images: one image is {PERCENT / count:.2g} points of accuracy and of every rate on ID.",
        f"{spread}What other data would bring, none of it says.",
        "OOD is whatever one tests with. These figures hold for the sets named here and say little of others: a score that is best on one "
        "kind of picture may be blind to another.",
    ]
    if siblings:
        said.append(f"Easier than they look, for runs that saw their kind: {', '.join(sorted(siblings))} (†).")
    if measured.detector is not None:
        said.append(
            "The detector's guarantee is about ID images that come as its calibration images came: from the same source, in the same mix "
            "of classes. It promises nothing of how much OOD is caught, and nothing where pictures drift: `atypical predict --watch` looks "
            "for that."
        )
    if measured.dreams is not None:
        said.append("One painter, one set of dreams for all seeds: their spread doesn't hold the painter's own.")
    return [Text(text) for text in said]

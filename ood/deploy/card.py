"""The model card of a detector: what it is for, what it rests on, what it was tried on and what not, from the run's own figures."""

from collections.abc import Mapping
from typing import Any

from ood.data.packed import Entry
from ood.deploy.calibrated import Calibrated
from ood.detection import guarantee
from ood.wording import of_texts

USE = """```python
from ood import Detector

detector = Detector.load("{folder}")
print(detector.predict({example}))
```"""


def card(
    found: Calibrated,
    figures: dict[str, Any] | None,
    manifest: Mapping[str, Entry],
    folder: str,
    made_with: Mapping[str, str],
    *,
    texts: bool = False,
) -> str:
    """README.md, with the head that model hubs read.

    Args:
        figures: what its threshold does on test images (ood.evaluation.operating); None: none was computed.
    """
    from huggingface_hub import ModelCard, ModelCardData

    head = ModelCardData(
        library_name="atypical",
        pipeline_tag=f"{'text' if texts else 'image'}-classification",
        tags=["out-of-distribution-detection", "conformal-prediction"],
    )
    changes = "who writes, or what about," if texts else "the camera, the light or what is photographed"
    parts = [
        "# A classifier that says when it doesn't know",
        f"{_classes(manifest)} Model `{found.model}`, score `{found.score}`"
        + (f", an ensemble of {len(found.seeds)} networks." if len(found.seeds) > 1 else f", seed {found.seeds[0]}."),
        "## Use",
        USE.format(folder=folder, example='"a text"' if texts else '"photo.jpg"'),
        "A verdict has the likeliest class and its probability, the score (larger is stranger), a p-value, and `is_ood`. "
        + (
            "Texts go through `tokenizer.json`, the same as in training; what is known of their words comes from there."
            if texts
            else "Pictures of any size go through the chain in `config.json`, the same as in training."
        ),
        "## What is promised",
        _promise(found),
        f"The promise is for pictures that come as the calibration pictures came, each on its own and not in bursts. It ends when "
        f"{changes} changes; then calibrate again. Of how many strange things are caught it says nothing: "
        "that is measured below, on what was at hand.",
        "## What it was tried on",
        *(_tried(found, figures) if figures else ["Nothing: no test figure was asked for (`evaluate.roles: [val]`)."]),
        "## What it was not tried on",
        "Anything else. Things that look like the known classes are the hardest, and pictures made to deceive it were not tried at all. "
        "How it was chosen: " + _chosen(found),
        "## Data and their roles",
        _roles(manifest),
        "## What goes along",
        "Weights, and what the score has kept of the training images' features; scores of the calibration images; and, where there is "
        "`thumbnails.safetensors`, some training images themselves.",
        "## Licences",
        "The training images' licences, and those of weights that the network started from, are not changed by this and were not checked.",
        "## Made with",
        ", ".join(f"{name} {version}" for name, version in made_with.items())
        + ". Answers are the same bit for bit on the same kind of processor; on another their last bits differ.",
    ]
    names = [*manifest["id/train"]["classes"], *manifest]
    parts = [of_texts(part, names) for part in parts] if texts else parts
    return str(ModelCard(f"---\n{head.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"))


def _classes(manifest: Mapping[str, Entry]) -> str:
    classes = list(manifest["id/train"]["classes"])
    shown = ", ".join(classes[:20]) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")
    return f"It tells {len(classes)} classes apart ({shown}) and flags what is none of them."


def _promise(found: Calibrated) -> str:
    each = " of what is taken for each class by itself (not of all classes at once)" if found.per_class else ""
    meaning = guarantee.meaning(found.guarantee, found.confidence)
    lines = [
        f"At most {found.reject:.1%} of the known classes' images are flagged{each}, {meaning} ({found.guarantee}): the "
        f"threshold rests on {found.images} images that nothing else was chosen or fitted on.",
    ]
    others = [kind for kind in guarantee.KINDS if kind != found.guarantee and kind in found.thresholds]
    if others:
        lines.append(f"With the same images it can also be asked for as {' or '.join(others)}: `Detector.load(..., guarantee=...)`.")
    return " ".join(lines)


def _tried(found: Calibrated, figures: dict[str, Any]) -> list[str]:
    inside = figures["id"]
    rows = [("known classes (ID test)", inside["images"], "flagged", inside["flagged"], inside["low"], inside["high"])]
    rows += [
        (name, one["images"], "caught", one["caught"], one["low"], one["high"])
        for group in ("near", "far")
        for name, one in figures[group].items()
    ]
    table = ["| pictures | how many | share flagged | interval |", "| --- | --- | --- | --- |"]
    table += [f"| {name} | {images} | {share:.1%} {verb} | {low:.1%} to {high:.1%} |" for name, images, verb, share, low, high in rows]
    right = f"{inside['accuracy']:.1%} of the known classes' images are recognised"
    left = "" if inside["selective_accuracy"] is None else f", {inside['selective_accuracy']:.1%} of those that aren't flagged"
    return ["\n".join(table), f"{right}{left}. Intervals: {found.confidence:.0%}, exact."]


def _chosen(found: Calibrated) -> str:
    held = "" if found.held_out is None else f"; on known classes that were held out {found.held_out:.1%}"
    who = "model and score are the best on validation OOD" if found.picked else "model or score were named by hand"
    return f"{who} (AUROC {found.by:.1%}{held}). Test images played no part in what was picked."


def _roles(manifest: Mapping[str, Entry]) -> str:
    rows = ["| set | images | source |", "| --- | --- | --- |"]
    for name, entry in manifest.items():
        source = entry["source"]
        what = source.get("path") or source.get("name") or source.get("kind") or source.get("image") or ""
        rows.append(f"| {name} | {entry['count']} | {source['source']}{f' {what}' if what else ''} |")
    return "\n".join(rows)

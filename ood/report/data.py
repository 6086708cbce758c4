"""What the report says of the data: every set with its source, what was left out, samples."""

from ood.config import Params
from ood.config.data import Data
from ood.data.packed import Entry
from ood.report.blocks import Block, Fold, Table, Text
from ood.report.tables import siblings_of
from ood.report.thumbnails import samples

ROLES = {
    "id": "ID",
    "auxiliary": "Auxiliary outliers, to train with",
    "validation": "Validation OOD, on which everything is chosen",
    "near": "Near-OOD, tested",
    "far": "Far-OOD, tested",
    "corrupted": "ID under corruption",
    "shifted": "ID under natural shift",
    "world": "The world that the small diffusion model learns",
}
SIBLING = (
    "† has a sibling of the same kind among the auxiliary outliers (easier for every run that saw those) or in the world that the small "
    "diffusion model learned (easier for every run that saw its dreams)."
)


def blocks(manifest: dict[str, Entry], params: Params) -> list[Block]:
    """Sets, classes, samples."""
    siblings, chain = siblings_of(manifest), params[Data].chain
    shade = ", grey" if chain.grey else ""
    told = f"All go through one chain to {chain.upsize or chain.size} pixels ({chain.resize}{shade})."
    if params[Data].kind == "text":
        text = params[Data].text
        case = "in lower case" if text.lower else "with their capitals"
        whose = "the ID training images" if text.tokenizer is None else f"`{text.tokenizer}`"
        told = f"All go through one chain to the first {text.length} words, {case}, of a vocabulary from {whose}."
    rows = [
        [f"{name}{' †' if name in siblings else ''}", str(one["count"]), origin(one), str(one["dropped"]), left_out(one)]
        for name, one in manifest.items()
    ]
    parts: list[Block] = [
        Text(told),
        *warnings(manifest),
        Table(["set", "images", "source", "gave way to another role", "left out"], rows),
    ]
    parts += [Text(SIBLING)] if siblings else []
    roles = [role for role in ROLES if any(name.startswith(f"{role}/") for name in manifest)]
    for role in roles:
        members = [name for name in manifest if name.startswith(f"{role}/") and name != "id/val"]
        galleries = [samples(name, f"{name}: {manifest[name]['count']} images") for name in members]
        parts.append(Fold(f"{ROLES[role]}: samples", galleries, open=role in ("id", "near", "far")))
    splits = [name for name in ("id/train", "id/val", "calibration/id", "id/test") if name in manifest]
    counts = [[label, *[str(manifest[name]["classes"].get(label, 0)) for name in splits]] for label in manifest["id/train"]["classes"]]
    titles = {"id/train": "to train", "id/val": "to validate", "calibration/id": "to calibrate", "id/test": "to test"}
    return [*parts, Fold("Images of every class", [Table(["class", *[titles[name] for name in splits]], counts)])]


def warnings(manifest: dict[str, Entry]) -> list[Text]:
    """What was left out of sets, so that nobody need find it in a table."""
    skipped = {name: left_out(one) for name, one in manifest.items() if one["skipped"]}
    dropped = {name: one["dropped"] for name, one in manifest.items() if one["dropped"]}
    found = []
    if skipped:
        found.append("Files were left out: " + "; ".join(f"{name}: {said}" for name, said in skipped.items()) + ".")
    if dropped:
        found.append("Images gave way to another role: " + ", ".join(f"{name}: {count}" for name, count in dropped.items()) + ".")
    if wrong := manifest["id/train"]["mislabelled"]:
        count = manifest["id/train"]["count"]
        found.append(f"The labels of {wrong} of {count} training images are wrong on purpose (data.id.label_noise).")
    return [Text(text, warning=True) for text in found]


def left_out(entry: Entry) -> str:
    """Why -> how many, in words."""
    return ", ".join(f"{count} {why}" for why, count in entry["skipped"].items())


def origin(entry: Entry) -> str:
    """A set's source in a few words."""
    source = entry["source"]
    classes = source.get("classes") or []
    told = [source.get("path"), source.get("name"), source.get("kind"), source.get("image"), source.get("characters")]
    few = "classes " + ", ".join(map(str, classes)) if 0 < len(classes) <= 12 else None
    return ", ".join(word for word in (source["source"], *told, few) if word)

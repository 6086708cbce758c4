"""What every stage stands on beside its data: the settings that it reads, the modules that it imports, the libraries."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from ood.closure import LOCK, hashes
from ood.config import Params
from ood.config.methods import NO_CONSTRAINT, UM, UMAP
from ood.config.nets import Net
from ood.config.training import Runtime
from ood.config.whole import SECTIONS
from ood.files import sha256, write_text

# What each stage reads of params.yaml. {run}: it has a basis for each run of that section.
SETTINGS = {
    "prepare": ["data"],
    "look": ["data.max_pixels", "data.chain", "look.net", "look.runs.{run}"],
    "pretrain": ["seeds", "net", "augment", "pretrain.keep_epochs", "pretrain.training", "pretrain.runs.{run}"],
    "trace": ["seeds", "trace.every", "trace.collapse", "evaluate.roles", "evaluate.fpr_rule", "trace.runs.{run}"],
    "epoch": ["seeds", "epochs.{run}"],
    "mask": [
        *("seeds", "augment", "mask.keep", "mask.masks", "mask.augment", "mask.layers", "mask.epochs", "mask.memorised", "mask.pictured"),
        "mask.runs.{run}",
    ],
    "um": ["seeds", "augment", "um.threshold", "um.training", "um.runs.{run}"],
    "umap": ["seeds", "augment", "umap.threshold", "umap.keep", "umap.training", "umap.runs.{run}"],
    "diffusion": ["prompts.template", "prompts.names", "diffusion"],
    "align": ["net", "augment", "prompts", "diffusion.enabled", "align"],
    "aligned": ["seeds", "prompts", "diffusion.enabled", "align.anchors", "aligned"],
    "proofs": ["data.chain", "prompts", "diffusion.enabled", "painting", "proofs"],
    "embed": ["prompts", "embed.seed", "embed.runs.{run}"],
    "synthesize": ["data.chain", "prompts", "painting", "synthesize.seed", "synthesize.runs.{run}"],
    "judge": ["seeds", "judge"],
    "oe": ["seeds", "augment", "um.threshold", "oe.outlier_batch", "oe.training", "oe.runs.{run}"],
    "features": ["seeds", "features"],
    "evaluate": ["seeds", "models", "scores", "evaluate"],
    "calibrate": [
        *("seeds", "models", "scores", "features.odin", "evaluate.roles", "detector"),
    ],
    "export": ["data.kind", "data.chain", "data.text", "data.max_pixels", "scores", "features.odin", "detector.thumbnails"],
    "report": [
        *(
            "seeds",
            "models",
            "pretrain",
            "epochs",
            "trace",
            "mask",
            "um",
            "umap",
            "diffusion",
            "align",
            "aligned",
            "embed",
            "painting",
            "synthesize",
            "judge",
        ),
        *("oe", "evaluate", "report", "data.kind", "data.chain", "data.text", "detector.price"),
    ],
}
FEW, NAMED = 20, 3  # changes that are told one by one; stages that are named of those which a change reaches
DEVICES = "ood/training/devices.py"  # what computes imports it, and reads `runtime`

Basis = dict[str, Any]  # dotted key -> value, path of a module -> sha256


def bases(params: Params) -> dict[str, Basis]:
    """The basis of every stage, of every run by DVC's name for it ('um@control')."""
    whole = {key: params[kind].model_dump(mode="json") for key, kind in SECTIONS.items()}
    found = {}
    for stage, listed in SETTINGS.items():
        code = hashes(f"stages/{stage}.py")
        shared = [key for key in listed if "{run}" not in key]
        settings = {name: leaf for key in shared for name, leaf in _leaves(key, _at(whole, key)).items()}
        if DEVICES in code:  # all but what no result depends on
            settings |= _leaves("runtime", params[Runtime].counted)
        if shared == listed:
            files = _given(_at(whole, stage), whole["net"]) if "net" in listed else {}
            files |= _tokenizer(whole["data"]["text"]) if "data" in listed else {}
            found[stage] = settings | code | files
        for section in (key.removesuffix(".{run}") for key in listed if "{run}" in key):
            for run, own in _at(whole, section).items():
                basis = _counting(settings, section.split(".")[0], own) | _leaves(f"{section}.{run}", own) | code
                net = whole["look"]["net"] if stage == "look" else whole["net"] if "net" in listed else None
                found[f"{stage}@{run}"] = basis | (_given(own, net) if net else {})
    return found


def write(basis: Basis, path: Path) -> None:
    """Write the file that DVC watches: a line for each key and module."""
    write_text(path, json.dumps(basis, ensure_ascii=False, indent=0) + "\n")


def read(folder: Path) -> dict[str, Basis]:
    """What `write` wrote into files of a folder, by their names, without damaged ones: they are there only to tell what changed."""
    found = {}
    for path in folder.glob("*.json"):
        with suppress(ValueError):
            content = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(content, dict):
                found[path.stem] = content
    return found


def changes(old: dict[str, Basis], new: dict[str, Basis]) -> dict[str, list[str]]:
    """What differs between two bases of the same stages, a setting with both its values -> the stages whose it is."""
    found: dict[str, list[str]] = {}
    for stage in sorted(old.keys() & new.keys()):
        before, after = old[stage], new[stage]
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                said = key if "/" in key or key == LOCK else f"{key} {json.dumps(before.get(key))} -> {json.dumps(after.get(key))}"
                found.setdefault(said, []).append(stage)
    return found


def told(found: dict[str, list[str]]) -> list[str]:
    """`changes` as sentences: one for each where they are few, else one for each section, with how many it has."""
    if len(found) <= FEW:
        return [f"{what} ({_some(stages)})" for what, stages in found.items()]
    sections: dict[str, tuple[int, list[str]]] = {}
    for what, stages in found.items():
        key = what.split()[0]
        section = ".".join(key.split(".")[:-1][:2]) if " -> " in what else what.rpartition("/")[0]
        section = section or key
        count, reached = sections.get(section, (0, []))
        sections[section] = count + 1, [*reached, *(stage for stage in stages if stage not in reached)]
    return [f"{section}: {count} changed ({_some(stages)})" for section, (count, stages) in sections.items()]


def _some(stages: list[str]) -> str:
    more = f" and {len(stages) - NAMED} more" if len(stages) > NAMED else ""
    return ", ".join(stages[:NAMED]) + more


def _given(own: Any, net: Any) -> Basis:
    """The files that a training starts from, if any, with their hashes: others under the same names are another start."""
    files = Net(**own.get("net") or net).files
    files += [Path(own["weights"])] if own.get("weights") and Path(own["weights"]).is_file() else []
    return {path.as_posix(): sha256(path) for path in files}


def _tokenizer(text: Any) -> Basis:
    """A tokenizer from elsewhere, if it is here, with its hash."""
    place = Path(text["tokenizer"] or "")
    found = [path for path in (place, place / "tokenizer.json") if text["tokenizer"] and path.is_file()]
    return {path.as_posix(): sha256(path) for path in found}


def _at(tree: Any, key: str) -> Any:
    """What stands at a dotted key."""
    for part in key.split("."):
        tree = tree[part]
    return tree


def _leaves(key: str, value: Any) -> Basis:
    """Dotted key -> value of everything below a key."""
    if isinstance(value, dict) and value:
        return {name: leaf for part, below in value.items() for name, leaf in _leaves(f"{key}.{part}", below).items()}
    return {key: value}


def _counting(settings: Basis, section: str, run: Any) -> Basis:
    """What counts for a run: no value of its section where it has its own, no threshold where it has no constraint."""
    if not isinstance(run, dict):
        return settings
    own = {key for key, value in run.items() if value is not None}
    replaced = {f"{start}.{key}" for key in own for start in (section, f"{section}.training")}
    left_out = (run.get("forget") or {}).get("how") == "drop"
    if run.get("constraint") == NO_CONSTRAINT or "threshold" in own or left_out:
        replaced |= {f"{stage.key}.threshold" for stage in (UM, UMAP)}
    return {key: value for key, value in settings.items() if not any(key == other or key.startswith(f"{other}.") for other in replaced)}

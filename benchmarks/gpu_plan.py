"""What the suite for one GPU does: its pieces and what each waits for, its data, and params.yaml of each workspace."""

import argparse
import re
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file

from ood.config import recipes

ROOT = Path(__file__).resolve().parent.parent
SUITE = Path("suite")
ARCHIVES = ("cifar10", "tin32", "dtd32", "mnist32")
GIVEN, ORIGINAL = "um_densenet.safetensors", "cifar10-original"  # of the suite `given`, which is left out where they aren't there


def measured(*models: str) -> list[str]:
    """The commands that lead from trained models to their figures."""
    return [f"{stage} {model}" for model in models for stage in ("features", "evaluate")]


# Suite -> piece -> its stage commands, in the order of worth. Names of workspaces begin with the suite's.
SUITES = {
    "given": {
        "given": ["prepare", "pretrain given", *measured("given"), "mask um"],
        "given-um": ["um um", "um control", *measured("um", "control")],
        "given-umap": ["umap umap", "umap umap-control", *measured("umap", "umap-control")],
    },
    "seed": {
        "prepare": ["prepare"],
        "wrn": ["pretrain wrn", *measured("wrn"), "mask um"],
        "oe": ["oe oe", "oe no-outliers", *measured("oe", "no-outliers")],
        "um": ["um um", "um control", *measured("um", "control")],
        "oe-um": ["oe oe-um", "oe oe-control", *measured("oe-um", "oe-control")],
        "l2": ["pretrain resnet", "pretrain l2", *measured("resnet", "l2")],
        "umap": ["umap umap", "umap umap-control", *measured("umap", "umap-control")],
        "dream": [
            *("diffusion", "align", "proofs", "embed outliers", "synthesize outliers", "judge outliers", "oe dream"),
            *measured("dream"),
        ],
        "densenet": ["pretrain densenet", *measured("densenet"), "trace densenet"],
        "trace": ["trace wrn"],
    },
}
PIECES = {name: commands for pieces in SUITES.values() for name, commands in pieces.items()}
# Command -> the commands whose results it starts from beside `prepare`, {base} being the net that a suite's methods start from; features,
# trace and evaluate need their model's training.
NEEDS = {
    "mask um": ["pretrain {base}"], "um um": ["mask um"], "um control": ["pretrain {base}"],
    "umap umap": ["mask um"], "umap umap-control": ["pretrain {base}"],
    "oe oe": ["pretrain {base}"], "oe no-outliers": ["pretrain {base}"], "oe oe-um": ["mask um"], "oe oe-control": ["pretrain {base}"],
    "align": ["diffusion"], "proofs": ["align"], "embed outliers": ["align"], "synthesize outliers": ["embed outliers"],
    "judge outliers": ["synthesize outliers", "pretrain {base}"], "oe dream": ["judge outliers"],
}  # fmt: skip
BASE = {"given": "given", "seed": "wrn"}
TRAININGS = ("pretrain", "um", "umap", "oe")
STARTS = {"um": ["wrn"], "oe": ["wrn"], "oe-um": ["wrn"], "umap": ["wrn"], "dream": ["wrn"], "given-um": ["given"], "given-umap": ["given"]}
MODELS = {
    "given": {"given": "energy", "um": "energy", "control": "energy", "umap": "energy", "umap-control": "energy"},
    "seed": {
        "wrn": "msp", "um": "energy", "control": "energy", "oe": "msp", "no-outliers": "msp", "oe-um": "energy", "oe-control": "energy",
        "resnet": "msp", "l2": "feature_norm", "umap": "energy", "umap-control": "energy", "dream": "energy", "densenet": "energy",
    },
}  # fmt: skip
# (FPR95, AUROC, net) in percent on the papers' own test sets, as their repositories publish them; see recipes/cifar10.yaml.
PUBLISHED = {
    ("seed", "wrn"): (34.94, 89.27, "WRN-40-2, MSP, protocol oe"),
    ("seed", "oe"): (9.50, 97.81, "WRN-40-2, OE fine-tuned, protocol oe"),
    ("given", "um"): (33.29, 93.73, "DenseNet, Energy + UM, protocol um"),
    ("given", "given"): (42.69, 92.07, "DenseNet, Energy, protocol um"),
    ("seed", "um"): (33.29, 93.73, "DenseNet, Energy + UM, protocol um"),
    ("seed", "densenet"): (42.69, 92.07, "DenseNet, Energy, protocol um"),
    ("seed", "oe-um"): (11.22, 97.60, "DenseNet, OE + UM, protocol um"),
}
SHOWN = {"fpr_ood_at_tpr95_id": "FPR95", "auroc": "AUROC"}


def base_params(data_id: str, miniature: bool, device: str) -> dict:
    """The recipe cifar10 for these archives: what both suites share."""
    text = recipes.apply((ROOT / "params.yaml").read_text(encoding="utf-8"), recipes.overlay("cifar10"), "cifar10")
    found = YAML(typ="safe").load(text)
    folder, data = {"source": "folder"}, found["data"]
    few = {"limit": 40} if miniature else {}
    data["id"]["images"] = folder | {"path": f"downloads/{data_id}/train"} | few
    data["id"]["test"] = folder | {"path": f"downloads/{data_id}/test"} | few
    data["near_duplicates"] = "apart"  # nearly all are in one training set, as in the papers: pairs needn't be looked for
    validation = 0.5 if miniature else 0.02
    data["id"]["split"] = {"train": 1 - validation, "val": validation, "test": 0.0}
    data["min_per_class"] = 1
    data["auxiliary"] = {"tin-aux": folder | {"path": "downloads/tin32/aux"} | few}
    data["validation"] = {"tin-val": folder | {"path": "downloads/tin32/val"} | few}
    data["near"] = {"tin-test": folder | {"path": "downloads/tin32/test"} | few}
    data["far"] = {"textures": folder | {"path": "downloads/dtd32"} | few, "mnist": folder | {"path": "downloads/mnist32"} | few}
    data["corrupted"] = {}
    # The world of the small pipeline is ID alone and what its prompts leave empty: no other captions are in the archives.
    data["world"] = {"speckled": {"source": "noise", "kind": "blobs", "count": 40 if miniature else 2000, "blur": 1.5}}
    found["scores"]["used"], found["evaluate"]["bootstrap"] = [], 0  # the table has own scores; the rest takes minutes a model
    found["report"]["pairs"] = {}
    found["features"]["odin"] = None
    # One core each beside the GPU: there are as many processes as jobs.
    found["runtime"] |= {"device": device, "threads": 1, "precision": "bf16" if device == "cuda" else "fp32", "fused": device == "cuda"}
    return found


def given_params(seed: int, given: argparse.Namespace) -> dict:
    """Unleashing Mask from its authors' own network, on the pixels that it has learned."""
    found = base_params(ORIGINAL, given.miniature, given.device)
    few = {"limit": 40} if given.miniature else {}
    data = found["data"]
    data["near"] |= {"cifar10-as-jpeg": {"source": "folder", "path": "downloads/cifar10/test"} | few}
    data["world"] = {}
    noise = {"source": "noise", "count": 40 if given.miniature else 2000, "space": "input"}
    data["far"] |= {"gaussian": noise | {"kind": "gaussian"}, "rademacher": noise | {"kind": "rademacher"}}
    data["far"] |= {"blobs": noise | {"kind": "blobs", "blur": 1.5}}
    if Path(given.data, "photos32").is_dir():  # photographs made small, without JPEG's traces
        data["far"] |= {"groceries": {"source": "folder", "path": "downloads/photos32"} | few}
    found["net"] = {"name": "densenet_bc_100_12", "dropout": 0.0, "affine": False}
    found["runtime"]["channels_last"] = False  # half as fast for this net on an H200: docs/performance.md
    found["pretrain"]["runs"] = {"given": {"epochs": 0, "weights": f"downloads/{GIVEN}"}}
    found["trace"]["runs"], found["oe"]["runs"], found["embed"]["runs"], found["synthesize"]["runs"] = {}, {}, {}, {}
    found["diffusion"]["enabled"], found["judge"]["run"] = False, "given"
    found["mask"] |= {"masks": 2, "runs": {"um": {"init": "given"}}}  # paper: 1; each sees all images twice, a minute on an H200
    for key, names in (("um", ("um", "control")), ("umap", ("umap", "umap-control"))):
        found[key]["runs"] = {name: found[key]["runs"][name] | {"init": "given"} for name in names}
        found[key]["training"]["epochs"] = given.um_epochs
    found["seeds"], found["models"] = [seed], dict(MODELS["given"])
    if given.miniature:
        _shrink(found)
    return found


def seed_params(seed: int, given: argparse.Namespace) -> dict:
    """Everything from scratch, WRN-40-2 as the net that UM and OE start from."""
    miniature = given.miniature
    found = base_params("cifar10", miniature, given.device)
    runs = found["pretrain"]["runs"]
    wide = runs["wrn"]
    found["net"] = {"name": "wrn_40_2", "dropout": 0.3}
    narrow = {"name": "densenet_bc_100_12", "affine": False}
    base = {"schedule": "cosine-epoch", "lr_end": 0.0, "weight_decay": 1.0e-4, "batch_size": 64}
    found["pretrain"]["runs"] = {
        "wrn": {key: value for key, value in wide.items() if key != "net"},
        "resnet": runs["resnet"], "l2": runs["l2"], "densenet": {"net": narrow} | base,
        "scratch": {"epochs": 0},
    }  # fmt: skip
    found["pretrain"]["keep_epochs"] = 10
    found["trace"]["runs"] = {"wrn": "energy", "densenet": "energy"}
    found["judge"]["run"] = "wrn"
    found["mask"]["runs"] = {"um": {"init": "wrn"}}
    for key, names in (("um", ("um", "control")), ("umap", ("umap", "umap-control"))):
        found[key]["runs"] = {name: found[key]["runs"][name] | {"init": "wrn"} for name in names}
    small = found["diffusion"]["small"]
    found["diffusion"]["model"] = None
    small["size"] = 32
    small["autoencoder"] |= {"channels": [64, 128], "training": {"steps": 8000, "batch_size": 128, "lr": 1.0e-3}}
    small["text"] |= {"width": 256, "layers": 4, "heads": 8}
    small["unet"] |= {
        "channels": [128, 256, 256],
        "ema": 0.999,
        "id_share": 0.95,
        "training": {"steps": 20000, "batch_size": 256, "lr": 5.0e-4},
    }
    small["save_every"] = 1000
    found["align"] |= {"net": {"name": "resnet18"}}
    found["align"]["training"] |= {"epochs": 30}
    found["embed"]["runs"]["outliers"] |= {"count": 1000, "cosine": 0.6, "features_per_class": 1000, "k": 300, "boundary": 200}
    found["painting"] = {"sampler": "dpm", "steps": 20, "guidance": 3.0, "batch_size": 250}
    found["oe"]["runs"] = {name: found["oe"]["runs"][name] for name in ("oe", "no-outliers", "oe-um", "oe-control", "dream")}
    for name in ("oe-um", "oe-control"):
        found["oe"]["runs"][name] |= {"init": "wrn"}
    found["oe"]["runs"]["dream"] |= {"init": "wrn", "epochs": 10, "lr": 0.01, "cut": 0.5, "outlier_batch": 128}
    found["seeds"], found["models"] = [seed], dict(MODELS["seed"])
    if given.epochs:  # shorter than the papers, where the time is short
        found["pretrain"]["training"]["epochs"] = given.epochs
    if miniature:
        _shrink(found)
    return found


def _shrink(found: dict) -> None:
    """An epoch of everything, and the smallest painter."""
    found["runtime"] |= {"precision": "fp32", "channels_last": False, "fused": False}
    trainings = [found[key]["training"] for key in ("pretrain", "um", "umap", "align", "oe")]
    for training in (*trainings, *found["pretrain"]["runs"].values(), *found["oe"]["runs"].values()):
        if training.get("epochs") or training in trainings:
            training["epochs"] = 1
        for key in ("schedule", "milestones", "batch_size", "outlier_batch"):
            if training not in trainings or key in ("schedule", "milestones"):
                training.pop(key, None)
        if training in trainings:
            training["batch_size"] = 16
    found["oe"]["outlier_batch"] = 8
    found["mask"]["masks"], found["features"]["batch_size"], found["evaluate"]["bootstrap"] = 1, 50, 0
    found["scores"] |= {"knn_k": 3, "nnguide_k": 3}
    step = {"steps": 2, "batch_size": 4, "lr": 1e-3}
    small = found["diffusion"]["small"]
    small["autoencoder"] |= {"channels": [8, 16], "training": step}
    small["text"] |= {"width": 32, "layers": 1, "heads": 4}
    small["unet"] |= {"channels": [16, 32], "training": step}
    for run in found["embed"]["runs"].values():
        run |= {"count": 2, "k": 2, "boundary": 1, "features_per_class": 2, "seeds_per_round": 1, "candidates": 3, "keep": 1}
    for run in found["synthesize"]["runs"].values():
        run["count"] = 2
    found["painting"] |= {"steps": 2, "batch_size": 10}
    found["proofs"] = {"seed": 0, "round_trip": 8, "samples": 1}
    if "dream" in found["oe"]["runs"]:
        found["oe"]["runs"]["dream"]["cut"] = 1.0


def extract(archive: tarfile.TarFile, folder: Path) -> None:
    """All of it, nothing outside the folder; Python before 3.11.4 knows no such filter."""
    archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
    archive.extractall(folder)


def unpack(data: Path) -> None:
    """Every archive once, below suite/downloads; folders and files as links."""
    target = SUITE / "downloads"
    target.mkdir(parents=True, exist_ok=True)
    for name in (*ARCHIVES, ORIGINAL, "photos32"):
        if (data / name).is_dir() and not (target / name).exists():
            (target / name).symlink_to((data / name).resolve())
        elif not (target / name).exists() and name in ARCHIVES:
            beside = target / f".{name}"  # an archive that was cut off must not look complete
            with tarfile.open(data / f"{name}.tar.xz") as archive:
                extract(archive, beside)
            (beside / name).rename(target / name)
    if (data / GIVEN).is_file() and not (target / GIVEN).exists():
        beside = target / f".{GIVEN}"
        save_file({our_name(name): tensor for name, tensor in load_file(data / GIVEN).items()}, beside)
        beside.rename(target / GIVEN)


def our_name(theirs: str) -> str:
    """A tensor of the UM authors' DenseNet by its name in ours: 16 bottlenecks a block, after the first two a transition, in one row."""
    if found := re.fullmatch(r"block(\d)\.layer\.(\d+)\.(.+)", theirs):
        return f"backbone.blocks.{(int(found[1]) - 1) * 17 + int(found[2])}.{found[3]}"
    if found := re.fullmatch(r"trans(\d)\.(bn|conv)1\.(.+)", theirs):
        return f"backbone.blocks.{int(found[1]) * 17 - 1}.{found[2]}.{found[3]}"
    return theirs if theirs.startswith("fc.") else f"backbone.{theirs.replace('conv1', 'stem').replace('bn1', 'bn')}"


def made_up(folder: Path) -> None:
    """Coloured noise in the archives' layout, where no pictures are."""
    rng = np.random.default_rng(0)
    counts = {"cifar10/train": 10, "cifar10/test": 10, "tin32/aux": 2, "tin32/val": 1, "tin32/test": 1, "dtd32": 1, "mnist32": 1}
    for path, classes in counts.items():
        for name in range(classes if not (folder / path).exists() else 0):
            (folder / path / f"c{name}").mkdir(parents=True)
            for i in range(5):
                Image.fromarray(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)).save(folder / path / f"c{name}/{i}.png")

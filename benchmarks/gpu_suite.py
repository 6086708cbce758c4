"""CIFAR-10, all 50,000 images, on one GPU: what the papers report, in pieces that go on where they were stopped.

    python benchmarks/gpu_suite.py smoke             # does every stage run here at all: in miniature, in every precision, compiled
    python benchmarks/gpu_suite.py run [--seeds 0 1 2] [--limit 500] [--data downloads] [--only wrn um ...] [--jobs 3]
    python benchmarks/gpu_suite.py table
    python benchmarks/gpu_suite.py pack FOLDER       # what another machine needs to go on piece by piece: figures, models to start from
    python benchmarks/gpu_suite.py unpack FOLDER     # there, before `run`
    python benchmarks/gpu_suite.py run --miniature --data FOLDER     # every piece on a CPU: a few pictures, an epoch

`run` does what is not done yet, in the order below, for --limit seconds, then stops at the last saved state; call it again. Two suites:
`given` starts from the Unleashing Mask authors' own DenseNet, `seed` trains from scratch by the recipe cifar10. Every suite and seed is a
workspace of its own (suite/given-<n>, suite/seed-<n>), its stages run as plain commands, no DVC; --jobs commands run side by side on the
one GPU, each as soon as what it starts from is there. (One DenseNet fills an H200; nine took turns for seven minutes, and none came to its
end.) A piece is a list of stage commands that share the networks trained before; a command that fails takes along what starts from its
results, nothing else. A model's figures are written down as soon as its features are there, so `table` only averages over seeds and puts
the published figures beside; what isn't there is an empty cell with its name.

Data, in --data: the four archives of small images (cifar10, tin32, dtd32, mnist32), packed or not. Tiny ImageNet's `aux` stands in for the
papers' outliers, its `test`, textures and MNIST for their test sets, so figures can be laid beside the papers' but not be equal.
`given` also wants um_densenet.safetensors (the authors' state dict, names as theirs) and cifar10-original/{train,test}/<class>/*.png: the
network has learned CIFAR-10's own pixels, and on JPEG copies of them it is another one (88 % right on what it knows by heart). There the
other sets can be told from ID by their encoding alone, so the test images' own JPEG copies are among them, as what that alone is worth.
"""

import argparse
import csv
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file

from ood.config import recipes
from ood.evaluation.metrics import detection_metrics

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


@dataclass
class Workspace:
    """One suite and seed: its folder, what is left to do, in order, and what is running."""

    suite: str
    folder: Path
    params: dict
    queue: list[str] = field(default_factory=list)
    running: dict[str, tuple[subprocess.Popen, float]] = field(default_factory=dict)

    def ready(self, first: "Workspace") -> list[str]:
        """Commands whose results to start from are there. Data don't depend on seeds: the first workspace prepares, the others link."""
        waiting = {*self.queue, *self.running}
        found = [command for command in self.queue if not needs(command, self.suite) & waiting]
        if "prepare" not in found or self is first:
            return found
        if "prepare" in {*first.queue, *first.running}:
            return []
        made, ours = first.folder / "data/prepared", self.folder / "data/prepared"
        if not made.exists():
            self.queue.clear()  # it failed there
            return []
        ours.parent.mkdir(exist_ok=True)
        if not ours.exists():
            ours.symlink_to(made.resolve())
        self.queue.remove("prepare")
        finish(self.folder, "prepare", 0.0)
        return self.ready(first)


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


def pending(suite: str, folder: Path, only: list[str]) -> list[str]:
    """The commands that a workspace has not done yet; done.txt has a line for each that is."""
    done = (folder / "done.txt").read_text().splitlines() if (folder / "done.txt").is_file() else []
    return [command for piece, commands in SUITES[suite].items() if piece in only for command in commands if command not in done]


def workspace(name: str, suite: str, settings: dict, only: list[str], pictures: Path) -> Workspace:
    """A folder with its params.yaml, as it was left, whose downloads are `pictures`.

    Raises:
        SystemExit: it holds a run with other settings.
    """
    folder = SUITE / name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "downloads").exists():
        (folder / "downloads").symlink_to(pictures.resolve())
    text, path = json.dumps(settings, indent=1), folder / "params.yaml"
    if path.is_file() and path.read_text() != text:
        raise SystemExit(f"{folder} holds a run with other settings. Move it away, or remove it, and call again.")
    path.write_text(text)
    return Workspace(suite, folder, settings, pending(suite, folder, only))


def run(given: argparse.Namespace) -> int:
    """All suites and seeds side by side until nothing is left or the time is over."""
    deadline = time.monotonic() + given.limit
    unpack(Path(given.data))
    makers = {"given": given_params, "seed": seed_params}
    if not all((SUITE / "downloads" / name).exists() for name in (GIVEN, ORIGINAL)):
        del makers["given"]
        print(f"the suite `given` is left out: {given.data} lacks {GIVEN} or {ORIGINAL}")
    found = [(seed, suite) for seed in given.seeds for suite in makers if set(given.only) & SUITES[suite].keys()]
    spaces = [workspace(f"{suite}-{seed}", suite, makers[suite](seed, given), given.only, SUITE / "downloads") for seed, suite in found]
    return work(spaces, deadline, given.jobs)


def smoke(given: argparse.Namespace) -> int:
    """Every piece from scratch in miniature, on made-up pictures, in every precision and layout and compiled."""
    deadline = time.monotonic() + given.limit
    pictures = SUITE / "made-up"  # a folder of their own: `run` must never take them for CIFAR-10
    made_up(pictures)
    variants = {"fp32": {"precision": "fp32"}, "bf16": {"precision": "bf16", "channels_last": True, "fused": True}}
    variants |= {"fp16": {"precision": "fp16"}} if given.device == "cuda" else {}
    variants |= {"compiled": variants["bf16"] | {"compile": True}}
    given.miniature, spaces = True, []
    for name, runtime in variants.items():
        settings = seed_params(0, given)
        settings["runtime"] |= runtime
        only = ["prepare", "wrn", "um"] if name == "compiled" else given.only  # a compiler takes its minute for every net
        spaces.append(workspace(f"smoke-{name}", "seed", settings, only, pictures))
    return work(spaces, deadline, given.jobs)


def made_up(folder: Path) -> None:
    """Coloured noise in the archives' layout, where no pictures are."""
    rng = np.random.default_rng(0)
    counts = {"cifar10/train": 10, "cifar10/test": 10, "tin32/aux": 2, "tin32/val": 1, "tin32/test": 1, "dtd32": 1, "mnist32": 1}
    for path, classes in counts.items():
        for name in range(classes if not (folder / path).exists() else 0):
            (folder / path / f"c{name}").mkdir(parents=True)
            for i in range(5):
                Image.fromarray(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)).save(folder / path / f"c{name}/{i}.png")


def work(spaces: list[Workspace], deadline: float, jobs: int) -> int:
    """Run what is left of all workspaces, `jobs` commands at a time; those that came first, first."""
    failed = False
    while any(space.queue or space.running for space in spaces) and time.monotonic() < deadline:
        for space in spaces:
            for command, (process, began) in [*space.running.items()]:
                if process.poll() is None:
                    continue
                del space.running[command]
                if not process.returncode:
                    finish(space.folder, command, time.monotonic() - began)
                    continue
                failed = True
                left_out = drop(command, space.queue, space.suite)
                print(f"{space.folder.name}: {command} failed (left out with it: {', '.join(left_out) or 'nothing'}):")
                print(log_of(space.folder, command).read_text()[-2000:], flush=True)
            first = next(other for other in spaces if other.suite == space.suite and other.params["data"] == space.params["data"])
            for command in space.ready(first):
                if sum(len(other.running) for other in spaces) < jobs:
                    space.queue.remove(command)
                    space.running[command] = (start(space, command), time.monotonic())
        time.sleep(0.1)
    for space in spaces:
        for command, (process, began) in space.running.items():
            if process.poll() == 0:
                finish(space.folder, command, time.monotonic() - began)
                continue
            process.kill()  # stages go on exactly where they were: nothing is lost but what isn't saved yet
            process.wait()
            space.queue.append(command)
            note(space.folder, f"{command} (cut off)", time.monotonic() - began)
    left = sum(len(space.queue) for space in spaces)
    print(f"{left} commands left" if left else "all done")
    return int(failed)


def drop(failed: str, queue: list[str], suite: str) -> list[str]:
    """Take off a queue what starts from the results of a command that failed; returns what was taken."""
    gone = [failed]
    for command in [*queue]:
        if needs(command, suite) & set(gone):
            gone.append(command)
            queue.remove(command)
    return gone[1:]


def needs(command: str, suite: str) -> set[str]:
    """The commands whose results a command starts from."""
    stage, _, model = command.partition(" ")
    if stage == "evaluate":
        return {f"features {model}"}
    if stage in ("features", "trace"):
        trainings = {f"{kind} {model}" for kind in TRAININGS}
        return {"prepare", next(c for commands in SUITES[suite].values() for c in commands if c in trainings)}
    return {"prepare", *(needed.format(base=BASE[suite]) for needed in NEEDS.get(command, []))} - {command}


def log_of(folder: Path, command: str) -> Path:
    """What a command printed, of all its calls."""
    return folder / "logs" / f"{command.replace(' ', '-')}.txt"


def start(space: Workspace, command: str) -> subprocess.Popen:
    folder = where = space.folder
    print(f"{folder.name}: {command}", flush=True)
    log = log_of(folder, command)
    if command.startswith("evaluate "):  # one model by itself, in a folder of its own: others may not have features yet
        model = command.split()[1]
        where, command = folder / "evaluation" / model, "evaluate"
        where.mkdir(parents=True, exist_ok=True)
        settings = json.loads((folder / "params.yaml").read_text())
        (where / "params.yaml").write_text(json.dumps(settings | {"models": {model: MODELS[space.suite][model]}}))
        (where / "data").mkdir(exist_ok=True)
        if not (where / "data/features").is_symlink():
            (where / "data/features").symlink_to((folder / "data/features").resolve())
    log.parent.mkdir(exist_ok=True)
    with log.open("a") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "stages", *command.split()],
            cwd=where,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
            stdout=stream,
            stderr=stream,
        )


def finish(folder: Path, command: str, seconds: float) -> None:
    with (folder / "done.txt").open("a") as stream:
        stream.write(f"{command}\n")
    note(folder, command, seconds)
    print(f"{folder.name}: {command} done, {seconds:.0f} s", flush=True)


def note(folder: Path, command: str, seconds: float) -> None:
    """How long a command ran; one that was cut off and went on has several rows."""
    with (folder / "times.csv").open("a") as stream:
        stream.write(f"{command},{seconds:.1f}\n")


def table(given: argparse.Namespace) -> int:
    """Average every model's figures over seeds, and lay them beside the published ones; then set by set what UM's network sees."""
    found: dict[tuple[str, str], list[dict]] = {}
    for path in sorted(SUITE.glob("*-*/evaluation/*/data/evaluation/detail.json")):
        suite = path.parents[4].name.rpartition("-")[0]
        if suite not in SUITES:  # smoke's figures are of noise
            continue
        for model, summary in json.loads(path.read_text()).items():
            seed = next(iter(summary["seeds"].values()))
            figures = {"accuracy": seed["id"]["test"]["accuracy"], "sets": seed["grid"][summary["own"]]}
            for protocol in ("um", "oe"):
                figures |= {f"{protocol} {k}": v[0] for k, v in summary["protocols"][protocol]["all"].items()}
            found.setdefault((suite, model), []).append(figures)
    keys = ["accuracy", "um fpr95", "um auroc", "oe fpr95", "oe auroc"]
    print(f"| suite | model | seeds | ID accuracy | {' | '.join(keys[1:])} | published FPR95 | published AUROC | of |")
    print("|" + " --- |" * 11)
    for suite, models in MODELS.items():
        for model, score in models.items():
            rows = found.get((suite, model), [])
            cells = [spread([row[key] for row in rows]) for key in keys]
            fpr, auroc, of = PUBLISHED.get((suite, model), ("none known", "none known", ""))
            print(f"| {suite} | {model} ({score}) | {len(rows)} | {' | '.join(cells)} | {fpr} | {auroc} | {of} |")
    by_set(found)
    against_copies()
    stream = io.StringIO()
    writer = csv.writer(stream)
    for folder in sorted(SUITE.glob("*-*")):
        if (folder / "times.csv").is_file():
            writer.writerows([folder.name, *row] for row in csv.reader((folder / "times.csv").open()))
    (SUITE / "times.csv").write_text(stream.getvalue())
    return 0


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds, in percent."""
    if not values:
        return "not run"
    return f"{100 * np.mean(values):.2f}" + (f" +- {100 * np.std(values, ddof=1):.2f}" if len(values) > 1 else "")


def by_set(found: dict[tuple[str, str], list[dict]]) -> None:
    """FPR95 and AUROC of every OOD set for every model that was run."""
    for key, title in SHOWN.items():
        sets = sorted({name for rows in found.values() for row in rows for name in row["sets"]})
        print(f"\n| {title} | {' | '.join(sets)} |\n|{' --- |' * (len(sets) + 1)}")
        for (suite, model), rows in found.items():
            cells = [spread([row["sets"][name][key] for row in rows if name in row["sets"]]) for name in sets]
            print(f"| {suite} {model} | {' | '.join(cells)} |")


def against_copies() -> None:
    """Energy of UM's network where ID is as encoded as the other sets: the JPEG copies of its test images take their place."""
    found: dict[str, list[dict]] = {}
    for path in sorted(SUITE.glob("given-*/data/features/*/*.safetensors")):
        energy = {name: torch.logsumexp(v, 1).numpy() for name, v in load_file(path).items() if name.endswith(":logits")}
        sets = {name.split(":")[0]: values for name, values in energy.items() if name.startswith(("near/tin", "far/mnist", "far/textures"))}
        known = energy["near/cifar10-as-jpeg:logits"]
        found.setdefault(path.parent.name, []).append({name: detection_metrics(known, values) for name, values in sets.items()})
    for key, title in SHOWN.items() if found else ():
        sets = sorted(next(iter(found.values()))[0])
        print(f"\n| {title}, ID as JPEG | {' | '.join(sets)} |\n|{' --- |' * (len(sets) + 1)}")
        for model, rows in found.items():
            print(f"| given {model} | {' | '.join(spread([row[name][key] for row in rows]) for name in sets)} |")


def pack(given: argparse.Namespace) -> int:
    """One archive a seed and kind below FOLDER, each small enough for what comes back from a lent machine (16 MiB for these nets)."""
    target = Path(given.folder)
    target.mkdir(parents=True, exist_ok=True)
    for folder in sorted(path.parent for path in SUITE.glob("*-*/done.txt")):
        suite = folder.name.rpartition("-")[0]
        if suite not in SUITES:
            continue
        kept = ["params.yaml", "done.txt", "times.csv", "logs", "metrics", "data/mask"]
        kept += [str(path.relative_to(folder)) for path in folder.glob("evaluation/*/data/evaluation")]
        archives = {"figures": [name for name in kept if (folder / name).exists()]}
        left = pending(suite, folder, list(PIECES))
        later = {model for piece, models in STARTS.items() if set(left) & set(SUITES[suite].get(piece, [])) for model in models}
        archives |= {model: [f"data/models/{model}"] for model in sorted(later) if (folder / f"data/models/{model}").is_dir()}
        for name, members in archives.items():
            with tarfile.open(target / f"{folder.name}.{name}.tar.gz", "w:gz") as archive:
                for member in members:
                    archive.add(folder / member, f"{folder.name}/{member}", filter=lambda info: None if "/epochs" in info.name else info)
    for path in sorted(target.iterdir()):
        print(f"{path.name} {path.stat().st_size / 2**20:.1f} MiB")
    return 0


def unpack_suite(given: argparse.Namespace) -> int:
    """What `pack` wrote, back in its place. Data sets are prepared anew there (the same bytes), pieces that were under way done again."""
    for path in sorted(Path(given.folder).glob("*-*.tar.gz")):
        with tarfile.open(path) as archive:
            extract(archive, SUITE)
    for done in SUITE.glob("*-*/done.txt"):
        lines, pieces = done.read_text().splitlines(), SUITES.get(done.parent.name.rpartition("-")[0], {}).values()
        whole = [line for commands in pieces if set(commands) <= set(lines) for line in commands if line != "prepare"]
        done.write_text("".join(f"{line}\n" for line in (lines if (done.parent / "data/prepared").exists() else whole)))
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["smoke", "run", "table", "pack", "unpack"])
    parser.add_argument("folder", nargs="?", default="packed", help="of pack and unpack")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--limit", type=float, default=500.0, help="seconds")
    parser.add_argument("--data", default="downloads")
    parser.add_argument("--only", nargs="+", choices=list(PIECES), default=list(PIECES))
    parser.add_argument("--jobs", type=int, default=0, help="commands at a time; by itself 3 on a GPU, 2 on a CPU")
    parser.add_argument("--epochs", type=int, default=0, help="of WRN-40-2 and DenseNet, in place of the papers' 100")
    parser.add_argument("--um-epochs", type=int, default=10, help="of UM and UMAP from the authors' network; the paper says 100")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "cpu"])
    parser.add_argument("--miniature", action="store_true")
    given = parser.parse_args()
    if given.device == "auto":
        given.device = "cuda" if torch.cuda.is_available() else "cpu"
    given.jobs = given.jobs or (3 if given.device == "cuda" else 2)
    raise SystemExit({"smoke": smoke, "run": run, "table": table, "pack": pack, "unpack": unpack_suite}[given.what](given))


if __name__ == "__main__":
    main()

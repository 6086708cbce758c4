"""CIFAR-10, all 50,000 images, on one GPU: what the papers report, in pieces that go on where they were stopped.

    python benchmarks/gpu_suite.py run [--seeds 0 1 2] [--limit 500] [--data downloads] [--only wrn um ...]
    python benchmarks/gpu_suite.py table
    python benchmarks/gpu_suite.py pack FOLDER       # what another machine needs to go on piece by piece: figures, models to start from
    python benchmarks/gpu_suite.py unpack FOLDER     # there, before `run`
    python benchmarks/gpu_suite.py run --miniature --data FOLDER     # every piece on a CPU: a few pictures, an epoch

`run` does what is not done yet, in the order below, for --limit seconds, then stops at the last saved state; call it again. Every seed
is a workspace of its own (suite/seed-<n>) with params.yaml from the recipe cifar10, and its stages run as plain commands, no DVC; seeds
run side by side on the one GPU. A piece is a list of stage commands that share the networks trained before; a command that fails takes
along what starts from its results, nothing else. A model's figures are written down as soon as its features are there, so `table`
only averages over seeds and puts the published figures beside; what isn't there is an empty cell with its name.

Data: the four archives of small images (cifar10, tin32, dtd32, mnist32), packed or not, in --data. Tiny ImageNet's `aux` stands in for the
papers' outliers, its `test`, textures and MNIST for their test sets, so figures can be laid beside the papers' but not be equal.
"""

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ruamel.yaml import YAML

from ood.config import recipes

ROOT = Path(__file__).resolve().parent.parent
SUITE = Path("suite")
ARCHIVES = ("cifar10", "tin32", "dtd32", "mnist32")


def measured(*models: str) -> list[str]:
    """The commands that lead from trained models to their figures."""
    return [f"{stage} {model}" for model in models for stage in ("features", "evaluate")]


# Piece -> its stage commands, in the order of worth.
PIECES = {
    "prepare": ["prepare"],
    "wrn": ["pretrain wrn", *measured("wrn"), "trace wrn", "mask um"],
    "um": ["um um", "um control", *measured("um", "control")],
    "oe": ["oe oe", "oe no-outliers", *measured("oe", "no-outliers")],
    "oe-um": ["oe oe-um", "oe oe-control", *measured("oe-um", "oe-control")],
    "l2": ["pretrain resnet", "pretrain l2", *measured("resnet", "l2")],
    "umap": ["umap umap", "umap umap-control", *measured("umap", "umap-control")],
    "dream": ["diffusion", "align", "proofs", "embed outliers", "synthesize outliers", "judge outliers", "oe dream", *measured("dream")],
    "densenet": ["pretrain densenet", *measured("densenet"), "trace densenet"],
}
# Command -> the commands whose results it starts from (all need prepare; features, evaluate and trace need their model's training).
NEEDS = {
    "mask um": ["pretrain wrn"], "um um": ["mask um"], "um control": ["pretrain wrn"],
    "umap umap": ["mask um"], "umap umap-control": ["pretrain wrn"],
    "oe oe": ["pretrain wrn"], "oe no-outliers": ["pretrain wrn"], "oe oe-um": ["mask um"], "oe oe-control": ["pretrain wrn"],
    "align": ["diffusion"], "proofs": ["align"], "embed outliers": ["align"], "synthesize outliers": ["embed outliers"],
    "judge outliers": ["synthesize outliers", "pretrain wrn"], "oe dream": ["judge outliers"],
}  # fmt: skip
TRAININGS = ("pretrain", "um", "umap", "oe")
STARTS = {"um": ["wrn"], "oe": ["wrn"], "oe-um": ["wrn"], "umap": ["wrn"], "dream": ["wrn"]}  # the models a piece starts from
MODELS = {
    "wrn": "msp", "um": "energy", "control": "energy", "oe": "msp", "no-outliers": "msp", "oe-um": "energy", "oe-control": "energy",
    "resnet": "msp", "l2": "feature_norm", "umap": "energy", "umap-control": "energy", "dream": "energy", "densenet": "energy",
}  # fmt: skip
# (FPR95, AUROC, net) in percent on the papers' own test sets, as their repositories publish them; see recipes/cifar10.yaml.
PUBLISHED = {
    "wrn": (34.94, 89.27, "WRN-40-2, MSP, protocol oe"),
    "oe": (9.50, 97.81, "WRN-40-2, OE fine-tuned, protocol oe"),
    "um": (33.29, 93.73, "DenseNet, Energy + UM, protocol um"),
    "densenet": (42.69, 92.07, "DenseNet, Energy, protocol um"),
    "oe-um": (11.22, 97.60, "DenseNet, OE + UM, protocol um"),
}


def params(seed: int, miniature: bool, device: str) -> dict:
    """The recipe cifar10 for these archives, one seed, WRN-40-2 as the net that UM starts from."""
    text = recipes.apply((ROOT / "params.yaml").read_text(encoding="utf-8"), recipes.overlay("cifar10"), "cifar10")
    found = YAML(typ="safe").load(text)
    folder, data = {"source": "folder"}, found["data"]
    few = {"limit": 40} if miniature else {}
    data["id"]["images"] = folder | {"path": "downloads/cifar10/train"} | few
    data["id"]["test"] = folder | {"path": "downloads/cifar10/test"} | few
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
    found["report"]["pairs"] = {}
    found["scores"]["used"], found["evaluate"]["bootstrap"] = [], 0  # the table has own scores; the rest takes minutes a model
    found["seeds"], found["models"] = [seed], dict(MODELS)
    found["runtime"] |= {"device": device, "threads": 4 if device == "cuda" else 1}
    if miniature:
        _shrink(found)
    return found


def _shrink(found: dict) -> None:
    """An epoch of everything, and the smallest painter."""
    found["runtime"] |= {"precision": "fp32", "channels_last": False}
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
    found["embed"]["runs"]["outliers"] |= {
        "count": 2, "k": 2, "boundary": 1, "features_per_class": 2, "seeds_per_round": 1, "candidates": 3, "keep": 1
    }  # fmt: skip
    found["synthesize"]["runs"]["outliers"]["count"] = 2
    found["painting"] |= {"steps": 2, "batch_size": 10}
    found["proofs"] = {"seed": 0, "round_trip": 8, "samples": 1}
    found["oe"]["runs"]["dream"]["cut"] = 1.0


def extract(archive: tarfile.TarFile, folder: Path) -> None:
    """All of it, nothing outside the folder; Python before 3.11.4 knows no such filter."""
    archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
    archive.extractall(folder)


def unpack(data: Path) -> None:
    """Every archive once, below suite/downloads."""
    target = SUITE / "downloads"
    target.mkdir(parents=True, exist_ok=True)
    for name in ARCHIVES:
        if (data / name).is_dir() and not (target / name).exists():
            (target / name).symlink_to((data / name).resolve())
        elif not (target / name).exists():
            beside = target / f".{name}"  # an archive that was cut off must not look complete
            with tarfile.open(data / f"{name}.tar.xz") as archive:
                extract(archive, beside)
            (beside / name).rename(target / name)


def workspace(seed: int, given: argparse.Namespace) -> Path:
    folder = SUITE / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "downloads").exists():
        (folder / "downloads").symlink_to((SUITE / "downloads").resolve())
    text = json.dumps(params(seed, given.miniature, given.device), indent=1)
    settings = folder / "params.yaml"
    if settings.is_file() and settings.read_text() != text:
        raise SystemExit(f"{folder} holds a run with other settings. Move it away, or remove it, and call again.")
    settings.write_text(text)
    return folder


def pending(folder: Path, only: list[str]) -> list[str]:
    """The commands that a seed has not done yet; done.txt has a line for each that is."""
    done = (folder / "done.txt").read_text().splitlines() if (folder / "done.txt").is_file() else []
    return [command for piece in PIECES if piece in only for command in PIECES[piece] if command not in done]


def run(given: argparse.Namespace) -> int:
    """All seeds side by side, each its own commands one after the other, until nothing is left or the time is over."""
    deadline = time.monotonic() + given.limit
    unpack(Path(given.data))
    folders = {seed: workspace(seed, given) for seed in given.seeds}
    queues = {seed: pending(folder, given.only) for seed, folder in folders.items()}
    running: dict[int, tuple[subprocess.Popen, float]] = {}
    failed = False
    while (any(queues.values()) or running) and time.monotonic() < deadline:
        for seed, queue in queues.items():
            if seed in running:
                process, began = running[seed]
                if process.poll() is None:
                    continue
                del running[seed]
                if process.returncode:
                    failed = True
                    log = folders[seed] / "log.txt"
                    left_out = drop(queue)
                    print(f"seed {seed}: {left_out[0]} failed (left out with it: {', '.join(left_out[1:])}), see {log}:")
                    print(log.read_text()[-2000:], flush=True)
                else:
                    finish(folders[seed], queue.pop(0), time.monotonic() - began)
            if queue and (queue[0] != "prepare" or prepares(seed, given.seeds[0], folders, queues)):
                running[seed] = (start(folders[seed], queue[0]), time.monotonic())
        time.sleep(0.2)
    for seed, (process, began) in running.items():
        if process.poll() == 0:
            finish(folders[seed], queues[seed].pop(0), time.monotonic() - began)
            continue
        process.kill()  # stages go on exactly where they were: nothing is lost but what isn't saved yet
        process.wait()
        note(folders[seed], f"{queues[seed][0]} (cut off)", time.monotonic() - began)
    left = sum(len(pending(folder, given.only)) for folder in folders.values())
    print(f"{left} commands left" if left else "all done")
    return int(failed)


def drop(queue: list[str]) -> list[str]:
    """Take a failed command off a queue, and what starts from its results; returns what was taken."""
    gone: list[str] = []
    for command in [*queue]:
        if command == queue[0] or needs(command) & set(gone):
            gone.append(command)
    queue[:] = [command for command in queue if command not in gone]
    return gone


def needs(command: str) -> set[str]:
    """The commands whose results a command starts from."""
    stage, _, model = command.partition(" ")
    if stage == "evaluate":
        return {f"features {model}"}
    if stage in ("features", "trace"):
        return {"prepare", next(c for commands in PIECES.values() for c in commands if c in {f"{kind} {model}" for kind in TRAININGS})}
    return {"prepare", *NEEDS.get(command, [])} - {command}


def prepares(seed: int, first: int, folders: dict[int, Path], queues: dict[int, list[str]]) -> bool:
    """Whether this seed is to prepare: data don't depend on seeds, so the first does and the others wait for it and link to it."""
    made, ours = folders[first] / "data/prepared", folders[seed] / "data/prepared"
    if seed == first:
        return True
    if made.exists() and "prepare" not in queues[first]:
        ours.parent.mkdir(exist_ok=True)
        if not ours.exists():
            ours.symlink_to(made.resolve())
        finish(folders[seed], queues[seed].pop(0), 0.0)
    elif "prepare" not in queues[first]:
        queues[seed].clear()  # it failed there
    return False


def start(folder: Path, command: str) -> subprocess.Popen:
    print(f"{folder.name}: {command}", flush=True)
    where = folder
    if command.startswith("evaluate "):  # one model by itself, in a folder of its own: others may not have features yet
        model = command.split()[1]
        where, command = folder / "evaluation" / model, "evaluate"
        where.mkdir(parents=True, exist_ok=True)
        settings = json.loads((folder / "params.yaml").read_text())
        (where / "params.yaml").write_text(json.dumps(settings | {"models": {model: MODELS[model]}}))
        (where / "data").mkdir(exist_ok=True)
        if not (where / "data/features").is_symlink():
            (where / "data/features").symlink_to((folder / "data/features").resolve())
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "stages", *command.split()],
            cwd=where,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
            stdout=log,
            stderr=log,
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
    """Average every model's figures over seeds, and lay them beside the published ones."""
    found: dict[str, list[dict]] = {}
    for path in sorted(SUITE.glob("seed-*/evaluation/*/data/evaluation/detail.json")):
        for model, summary in json.loads(path.read_text()).items():
            figures = {"accuracy": next(iter(summary["seeds"].values()))["id"]["test"]["accuracy"]}
            for protocol in ("um", "oe"):
                figures |= {f"{protocol} {k}": v[0] for k, v in summary["protocols"][protocol]["all"].items()}
            found.setdefault(model, []).append(figures)
    keys = ["accuracy", "um fpr95", "um auroc", "oe fpr95", "oe auroc"]
    print(f"| model | seeds | ID accuracy | {' | '.join(keys[1:])} | published FPR95 | published AUROC | of |")
    print("|" + " --- |" * 10)
    for model in MODELS:
        rows = found.get(model, [])
        cells = [f"{100 * sum(row[key] for row in rows) / len(rows):.2f}" if rows else "not run" for key in keys]
        fpr, auroc, of = PUBLISHED.get(model, ("none known", "none known", ""))
        print(f"| {model} ({MODELS[model]}) | {len(rows)} | {' | '.join(cells)} | {fpr} | {auroc} | {of} |")
    stream = io.StringIO()
    writer = csv.writer(stream)
    for folder in sorted(SUITE.glob("seed-*")):
        if (folder / "times.csv").is_file():
            writer.writerows([folder.name, *row] for row in csv.reader((folder / "times.csv").open()))
    (SUITE / "times.csv").write_text(stream.getvalue())
    return 0


def pack(given: argparse.Namespace) -> int:
    """One archive a seed and kind below FOLDER, each small enough for what comes back from a lent machine (16 MiB for these nets)."""
    target = Path(given.folder)
    target.mkdir(parents=True, exist_ok=True)
    for folder in sorted(SUITE.glob("seed-*")):
        kept = ["params.yaml", "done.txt", "times.csv", "log.txt", "metrics", "data/mask"]
        kept += [str(path.relative_to(folder)) for path in folder.glob("evaluation/*/data/evaluation")]
        archives = {"figures": [name for name in kept if (folder / name).exists()]}
        left = pending(folder, list(PIECES))
        later = {model for piece, models in STARTS.items() if set(left) & set(PIECES[piece]) for model in models}
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
    for path in sorted(Path(given.folder).glob("seed-*.tar.gz")):
        with tarfile.open(path) as archive:
            extract(archive, SUITE)
    for done in SUITE.glob("seed-*/done.txt"):
        lines = done.read_text().splitlines()
        whole = [line for piece, commands in PIECES.items() if piece != "prepare" and set(commands) <= set(lines) for line in commands]
        done.write_text("".join(f"{line}\n" for line in (lines if (done.parent / "data/prepared").exists() else whole)))
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "table", "pack", "unpack"])
    parser.add_argument("folder", nargs="?", default="packed", help="of pack and unpack")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--limit", type=float, default=500.0, help="seconds")
    parser.add_argument("--data", default="downloads")
    parser.add_argument("--only", nargs="+", choices=list(PIECES), default=list(PIECES))
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "cpu"])
    parser.add_argument("--miniature", action="store_true")
    given = parser.parse_args()
    if given.device == "auto":
        import torch

        given.device = "cuda" if torch.cuda.is_available() else "cpu"
    raise SystemExit({"run": run, "table": table, "pack": pack, "unpack": unpack_suite}[given.what](given))


if __name__ == "__main__":
    main()

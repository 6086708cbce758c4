"""CIFAR-10 on one GPU that is there for a quarter of an hour, without DVC: folders for plain.py, and what to keep of them.

    python benchmarks/gpu_suite.py make FOLDER --only doses [small given wrn] [--data downloads] [--seeds 0 1]
    python benchmarks/plain.py FOLDER/* --jobs 14 --limit 540
    python benchmarks/gpu_suite.py gather FOLDER OUT      # a tar of figures, pictures and logs for each

doses   the recipe cifar10-noisy at 0, 10 and 20 % symmetric and 20 % confusable wrong labels, a folder each
small   the recipe cifar10-cpu with PixMix, RotPred, POEM and DOE, all but DREAM-OOD, whose stages need diffusers
given   Unleashing Mask from its authors' own DenseNet, on the pixels that it has learned
wrn     WRN-40-2 by the recipe cifar10, and OE from it

`gather` first evaluates what has features where `evaluate` was not reached. --miniature: the same with few pictures and an epoch or two, to
try the stages; --device, --precision, --compile: as in params.yaml.

Data, in --data: the four archives of small images (cifar10, tin32, dtd32, mnist32), packed or not; `given` also wants
um_densenet.safetensors (the authors' state dict, names as theirs) and cifar10-original/{train,test}/<class>/*.png: on JPEG copies of
the pixels that it has learned it is another network (88 % right on what it knows by heart). There the other sets can be told from ID
by their encoding alone, so the test images' own JPEG copies are among them, as what that alone is worth.
"""

import argparse
import re
import subprocess
import sys
import tarfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from doses import noise
from plain import Dag
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file
from workspaces import make, parameters, stage, write

ARCHIVES = ("cifar10", "tin32", "dtd32", "mnist32")
GIVEN, ORIGINAL = "um_densenet.safetensors", "cifar10-original"
DOSES = ("0", "10", "20", "confusable-20")
KEPT = ("done.txt", "params.yaml", "metrics", "logs", "data/prepared/manifest.json")
UM = ("um", "control", "umap", "umap-control")


def doses() -> dict[str, dict]:
    """The four doses, every epoch of `ce` looked at."""
    found = {f"noisy-{dose}": parameters("cifar10-noisy") for dose in DOSES}
    for dose in DOSES:
        found[f"noisy-{dose}"]["data"]["id"]["label_noise"] = noise("cifar10-noisy", dose)
        found[f"noisy-{dose}"]["trace"]["every"] = 1
    return found


def small() -> dict[str, dict]:
    """All of CIFAR-10 with a small net, and the default run's other opponents, with the recipe's margins and weight of outliers."""
    found = parameters("cifar10-cpu")
    runs, outliers = found["oe"]["runs"], found["oe"]["runs"]["oe"]
    found["pretrain"]["runs"] |= {"pixmix": {"strong": {"pixmix": {}}}, "pixmix-plain": {"strong": {"pixmix": {"pictures": 0}}}}
    found["pretrain"]["runs"] |= {"rotation": {"rotation": 1.0}}
    runs |= {
        "poem": runs["energy"] | {"mine": {}},
        "doe": outliers | {"perturb": {}},
        "doe-still": outliers | {"perturb": {"sizes": [0.0]}},
    }
    found["models"] |= {"pixmix": "msp", "pixmix-plain": "msp", "rotation": "rotation", "poem": "energy", "doe": "msp", "doe-still": "msp"}
    found["report"]["pairs"] |= {"pixmix": "pixmix-plain", "pixmix-plain": "ce", "rotation": "ce", "poem": "energy", "doe": "doe-still"}
    for section in (found["oe"]["runs"], found["models"], found["report"]["pairs"]):
        del section["dream"]
    found["data"]["world"] = {}
    return {"small": found}


def full_size(known: str) -> dict:
    """The recipe cifar10 on these archives, `known` of them ID, without any method."""
    found = parameters("cifar10")
    data, folder = found["data"], {"source": "folder"}
    data["id"] |= {
        "images": folder | {"path": f"downloads/{known}/train"},
        "test": folder | {"path": f"downloads/{known}/test"},
        "split": {"train": 0.96, "val": 0.02, "calibration": 0.02, "test": 0.0},
    }
    data["near_duplicates"] = "apart"  # nearly all are in one training set, as in the papers: pairs needn't be looked for
    data["auxiliary"] = {"tin-aux": folder | {"path": "downloads/tin32/aux"}}
    data["validation"] = {"tin-val": folder | {"path": "downloads/tin32/val"}}
    data["near"] = {"tin-test": folder | {"path": "downloads/tin32/test"}}
    data["far"] = {"textures": folder | {"path": "downloads/dtd32"}, "mnist": folder | {"path": "downloads/mnist32"}}
    data["corrupted"], data["world"] = {}, {}
    for key in ("mask", "um", "umap", "oe", "trace"):
        found[key]["runs"] = {}
    found["epochs"] = {}
    found["scores"]["used"], found["evaluate"]["bootstrap"], found["features"]["odin"] = [], 0, None  # the rest takes minutes
    found["judge"]["run"] = "base"
    found["models"], found["report"]["pairs"] = {"base": "energy"}, {}
    return found


def given(epochs: int) -> dict[str, dict]:
    """UM from its authors' network, of so many epochs."""
    found, shipped = full_size(ORIGINAL), parameters("cifar10")
    found["mask"] |= {"runs": {"um": {"init": "base"}}, "masks": 2}  # paper: 1 mask; each sees all images twice, a minute on an H200
    for key, names in (("um", UM[:2]), ("umap", UM[2:])):
        found[key]["runs"] = {name: shipped[key]["runs"][name] | {"init": "base"} for name in names}
        found[key]["training"]["epochs"] = epochs
    found["models"] |= dict.fromkeys(UM, "energy")
    found["report"]["pairs"] = {"um": "control", "umap": "umap-control"}
    found["data"]["near"]["cifar10-as-jpeg"] = {"source": "folder", "path": "downloads/cifar10/test"}
    noise_like = {"source": "noise", "count": 2000, "space": "input"}
    found["data"]["far"] |= {"gaussian": noise_like | {"kind": "gaussian"}, "rademacher": noise_like | {"kind": "rademacher"}}
    found["data"]["far"] |= {"blobs": noise_like | {"kind": "blobs", "blur": 1.5}}
    found["net"] = {"name": "densenet_bc_100_12", "dropout": 0.0, "affine": False}
    found["runtime"]["channels_last"] = False  # half as fast for this net on an H200: docs/performance.md
    found["pretrain"]["runs"] = {"base": {"epochs": 0, "weights": f"downloads/{GIVEN}"}}
    return {"given": found}


def wrn(epochs: int) -> dict[str, dict]:
    """WRN-40-2 from scratch, of so many epochs, OE from it, and what a detector says."""
    found, shipped = full_size("cifar10"), parameters("cifar10")
    found["net"] = {"name": "wrn_40_2", "dropout": 0.3}
    found["pretrain"]["runs"] = {"base": {key: part for key, part in shipped["pretrain"]["runs"]["wrn"].items() if key != "net"}}
    found["oe"]["runs"] = {name: shipped["oe"]["runs"][name] | {"init": "base"} for name in ("oe", "no-outliers")}
    found["models"] |= {"oe": "msp", "no-outliers": "msp"}
    found["report"]["pairs"]["oe"] = "no-outliers"
    found["pretrain"]["training"]["epochs"] = epochs
    return {"wrn": found}


SUITES = ("doses", "small", "given", "wrn")


def shrink(params: dict) -> None:
    """Few pictures, an epoch or two: whether all of it runs, no more."""
    data = params["data"]
    for role in ("auxiliary", "validation", "near", "far", "corrupted"):
        for source in data[role].values():
            source["count" if source["source"] == "noise" else "limit"] = 40
    data["id"]["images"]["limit"] = data["id"]["test"]["limit"] = 800
    data["id"]["split"] = {"train": 0.6, "val": 0.2, "calibration": 0.2, "test": 0.0}
    data["min_per_class"] = 1
    params["pretrain"]["training"]["warmup"] = 0
    for key in ("pretrain", "um", "umap", "oe"):
        params[key]["training"]["epochs"] = 2
        for run in params[key]["runs"].values():
            run |= {"epochs": 2, "warmup": 0} if run.get("epochs") else {}
    for epoch in params["epochs"].values():
        epoch["epoch"] = 1
    params["scores"] |= {"knn_k": 5, "nnguide_k": 5}


def build(where: Path, wanted: argparse.Namespace) -> None:
    """The folders, their data unpacked beside them."""
    downloads = where.parent / f"{where.name}-downloads"
    unpack(Path(wanted.data), downloads)
    makers = {"doses": doses, "small": small, "given": partial(given, wanted.um_epochs), "wrn": partial(wrn, wanted.epochs)}
    for suite in wanted.only:
        for name, params in makers[suite]().items():
            params["seeds"] = wanted.seeds
            params["diffusion"]["enabled"] = False
            params["embed"]["runs"], params["synthesize"]["runs"] = {}, {}
            gpu = wanted.device == "cuda"
            params["runtime"] |= {
                "device": wanted.device,
                "precision": wanted.precision,
                "compile": wanted.compile,
                "fused": gpu,
                "threads": 1,
                "workers": 8 if gpu else 2,
            }
            params["features"]["batch_size"] = 2000 if gpu else 200
            if wanted.miniature:
                shrink(params)
            make(where / name, params, downloads)
            print(where / name)


def unpack(data: Path, target: Path) -> None:
    """Every archive once; folders as links, the authors' weights by our names."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (*ARCHIVES, ORIGINAL):
        if (data / name).is_dir() and not (target / name).exists():
            (target / name).symlink_to((data / name).resolve())
    packed = [name for name in ARCHIVES if not (target / name).exists()]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(partial(extract, data, target), packed))
    if (data / GIVEN).is_file() and not (target / GIVEN).exists():
        save_file({our_name(name): tensor for name, tensor in load_file(data / GIVEN).items()}, target / f".{GIVEN}")
        (target / f".{GIVEN}").rename(target / GIVEN)


def extract(data: Path, target: Path, name: str) -> None:
    """One archive: an archive that was cut off must not look complete."""
    beside = target / f".{name}"
    with tarfile.open(data / f"{name}.tar.xz") as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)  # none before Python 3.11.4
        archive.extractall(beside)
    (beside / name).rename(target / name)


def our_name(theirs: str) -> str:
    """A tensor of the UM authors' DenseNet by its name in ours: 16 bottlenecks a block, after the first two a transition, in one row."""
    if found := re.fullmatch(r"block(\d)\.layer\.(\d+)\.(.+)", theirs):
        return f"backbone.blocks.{(int(found[1]) - 1) * 17 + int(found[2])}.{found[3]}"
    if found := re.fullmatch(r"trans(\d)\.(bn|conv)1\.(.+)", theirs):
        return f"backbone.blocks.{int(found[1]) * 17 - 1}.{found[2]}.{found[3]}"
    return theirs if theirs.startswith("fc.") else f"backbone.{theirs.replace('conv1', 'stem').replace('bn1', 'bn')}"


def gather(where: Path, out: Path) -> None:
    """What is worth keeping of every folder."""
    out.mkdir(parents=True, exist_ok=True)
    for folder in sorted(path.parent for path in where.glob("*/params.yaml")):
        if "evaluate" in Dag.of(folder).left:
            in_part(folder)
        (folder / "metrics/report.html").unlink(missing_ok=True)
        with tarfile.open(out / f"{folder.name}.tar.gz", "w:gz") as archive:
            for name in (*KEPT, "part/metrics"):
                if (folder / name).exists():
                    archive.add(folder / name, f"{folder.name}/{name}")
        print(out / f"{folder.name}.tar.gz")


def in_part(folder: Path) -> None:
    """Evaluate the models of a folder that have features, in a folder of their own."""
    params, part = YAML(typ="safe").load((folder / "params.yaml").read_text()), folder / "part"
    params["models"] = {name: own for name, own in params["models"].items() if (folder / "data/features" / name).is_dir()}
    (part / "data").mkdir(parents=True, exist_ok=True)
    if not (part / "data/features").is_symlink():
        (part / "data/features").symlink_to((folder / "data/features").resolve())
    write(part, params)
    if params["models"]:
        try:
            stage(part, "evaluate")
        except subprocess.CalledProcessError:
            print(f"{folder.name}: what there is can't be evaluated", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["make", "gather"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path("gathered"))
    parser.add_argument("--only", nargs="+", choices=SUITES, default=["doses"])
    parser.add_argument("--data", default="downloads")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=100, help="of WRN-40-2; the paper's")
    parser.add_argument("--um-epochs", type=int, default=10, help="of UM and UMAP from the given network; the paper says 100")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--miniature", action="store_true")
    wanted = parser.parse_args()
    build(wanted.folder, wanted) if wanted.what == "make" else gather(wanted.folder, wanted.out)


if __name__ == "__main__":
    main()

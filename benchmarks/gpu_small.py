"""All of CIFAR-10 with a small net, and the doses of wrong labels, on one GPU without DVC: the recipes cifar10-cpu and cifar10-noisy.

    python benchmarks/gpu_small.py make FOLDER --downloads downloads [--seeds 0 1 2] [--device cuda]
    python benchmarks/plain.py FOLDER/* --jobs 15 --limit 560
    python benchmarks/gpu_small.py gather FOLDER OUT     # what is worth keeping of each, one archive a folder

`make` writes a folder for every dose and one for cifar10-cpu, which leaves DREAM-OOD out: its stages are the only ones that need diffusers.
"""

import argparse
import shutil
import tarfile
from pathlib import Path

from doses import noise
from workspaces import make, parameters

DOSES = ("0", "10", "20", "confusable-20")
KEPT = ("done.txt", "params.yaml", "metrics", "logs", "data/prepared/manifest.json")


def folders(where: Path, downloads: Path, seeds: list[int], device: str, miniature: bool) -> None:
    """One for every dose, one for all of CIFAR-10."""
    found = {f"noisy-{dose}": parameters("cifar10-noisy") for dose in DOSES}
    for dose in DOSES:
        found[f"noisy-{dose}"]["data"]["id"]["label_noise"] = noise("cifar10-noisy", dose)
        found[f"noisy-{dose}"]["trace"]["every"] = 1
    whole = parameters("cifar10-cpu")
    whole["diffusion"]["enabled"] = False
    whole["embed"]["runs"], whole["synthesize"]["runs"], whole["data"]["world"] = {}, {}, {}
    for section in (whole["oe"]["runs"], whole["models"], whole["report"]["pairs"]):
        del section["dream"]
    found["cifar10-cpu"] = whole
    for name, params in found.items():
        params["seeds"] = seeds
        params["runtime"] |= {"device": device, "fused": device == "cuda"}
        params["features"]["batch_size"] = 2000 if device == "cuda" else 200
        if miniature:
            shrink(params)
        make(where / name, params, downloads)


def shrink(params: dict) -> None:
    """Few pictures, an epoch or two: whether all of it runs, no more."""
    data = params["data"]
    for role in ("auxiliary", "validation", "near", "far", "corrupted"):
        for source in data[role].values():
            source["limit"] = 40
    data["id"]["images"]["limit"] = data["id"]["test"]["limit"] = 800
    data["id"]["split"] = {"train": 0.6, "val": 0.2, "calibration": 0.2, "test": 0.0}
    for key in ("pretrain", "um", "umap", "oe"):
        params[key]["training"]["epochs"] = 2
        for run in params[key]["runs"].values():
            run |= {"epochs": 2, "warmup": 0} if run.get("epochs") else {}
    for epoch in params["epochs"].values():
        epoch["epoch"] = 1
    params["pretrain"]["training"]["warmup"] = 0
    params["scores"]["knn_k"] = 5


def gather(where: Path, out: Path) -> None:
    """Archives of figures, pictures and logs."""
    out.mkdir(parents=True, exist_ok=True)
    for folder in sorted(path.parent for path in where.glob("*/params.yaml")):
        for page in folder.glob("metrics/*.html"):
            page.unlink()
        with tarfile.open(out / f"{folder.name}.tar.gz", "w:gz") as archive:
            for name in KEPT:
                if (folder / name).exists():
                    archive.add(folder / name, f"{folder.name}/{name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["make", "gather"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--miniature", action="store_true")
    given = parser.parse_args()
    if given.what == "make":
        shutil.rmtree(given.folder, ignore_errors=True)
        folders(given.folder, given.downloads, given.seeds, given.device, given.miniature)
    else:
        gather(given.folder, given.out)


if __name__ == "__main__":
    main()

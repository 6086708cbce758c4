"""A recipe of wrong labels at several doses, each in a clone of what is committed: reports, rankings and traces for docs/results/.

    python benchmarks/doses.py digits-noisy --out docs/results/digits-noisy [--doses 0 10 20 confusable-20] [--draws 0]
    python benchmarks/doses.py cifar10-noisy --out docs/results/cifar10-noisy --downloads downloads [--work FOLDER]

A dose is a share in percent, symmetric, or 'confusable-' and a share: by the recipe's own pairs, which its comments name, or by the nearest
mean image. --draws: seeds of the data: which labels are wrong, and how images are split; of another than 0 the files end in its number. Of
every run are kept: <dose>.md, the report; <dose>.mask.json, who finds the wrong labels; <dose>.trace.csv, every epoch of ce. With --work
the clones are kept in that folder, and the same command goes on where it was stopped.
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ruamel.yaml import YAML
from workspaces import ROOT, write

PAIRS = {
    "cifar10-noisy": {
        "cat": "dog", "dog": "cat", "deer": "horse", "horse": "deer", "automobile": "truck", "truck": "automobile", "bird": "airplane",
        "airplane": "bird", "frog": "cat", "ship": "airplane",
    },
}  # fmt: skip
KEPT = {"metrics/report.md": "md", "metrics/mask/um.json": "mask.json", "metrics/trace/ce.csv": "trace.csv"}


def noise(recipe: str, dose: str) -> dict:
    """The section data.id.label_noise of a dose."""
    kind, _, share = dose.rpartition("-")
    found = {"share": float(share) / 100, "kind": kind or "symmetric"}
    return found | ({"pairs": PAIRS[recipe]} if kind and recipe in PAIRS else {})


def named(dose: str, draw: int) -> str:
    """What the files of a dose and draw are called, without their endings."""
    return f"{dose}-draw-{draw}" if draw else dose


def run(recipe: str, dose: str, draw: int, downloads: Path | None, out: Path, work: Path) -> None:
    """One dose, from the clone, which may have come some way before, to its three files."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    name = named(dose, draw)
    folder = work / f"{recipe}-{name}"

    def stages(*command: str) -> None:
        subprocess.run([sys.executable, "-m", "stages", *command], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)

    if not (folder / "asked").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
        if downloads is not None:
            (folder / "downloads").symlink_to(downloads.resolve())
        stages("recipe", recipe)
        params = YAML(typ="safe").load((folder / "params.yaml").read_text(encoding="utf-8"))
        params["data"]["id"]["label_noise"], params["data"]["seed"], params["trace"]["every"] = noise(recipe, dose), draw, 1
        write(folder, params)
        (folder / "asked").touch()
    stages("repro", "--jobs", "2")
    for source, ending in KEPT.items():
        shutil.copyfile(folder / source, out / f"{name}.{ending}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=["digits-noisy", "cifar10-noisy"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--doses", nargs="+", default=["0", "10", "20", "confusable-20"])
    parser.add_argument("--draws", type=int, nargs="+", default=[0])
    parser.add_argument("--downloads", type=Path)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as where:
        for draw, dose in itertools.product(given.draws, given.doses):
            run(given.recipe, dose, draw, given.downloads, given.out, (given.work or Path(where)).resolve())
            print(f"{given.recipe}, {dose}, draw {draw}: done", flush=True)


if __name__ == "__main__":
    main()

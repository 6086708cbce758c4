"""Who finds labels that were changed on purpose: masks (Unleashing Mask), the plain loss, or cross-validated heads (`look`)?

    python benchmarks/mislabelled.py FOLDER [--share 0.05] [--recipe folder] [--seeds 0 1 2]

Copies FOLDER (<class>/<picture>) with so large a share of its labels changed at random, once a seed, and runs `look`'s judges, `prepare`,
`pretrain ce` and `mask um` of the recipe on it: `folder` masks the head alone, for the backbone is frozen; `folder-tuned` trains and masks
the whole network. AUROC of each ranking over the training images, a changed label being what is to be found; and the share of changed
labels among the first, as many as there are.
"""

import argparse
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from ruamel.yaml import YAML
from sklearn.metrics import roc_auc_score

from ood.config import recipes
from ood.config.look import Asked, Look
from ood.config.training import Runtime
from ood.data.sets import FileSet
from ood.look.folder import list_files, read
from ood.look.guide import propose, survey
from ood.look.labels import doubts
from ood.look.network import network
from ood.progress import Silent
from ood.training.devices import placed, set_up_cpu
from ood.training.frozen import features

ROOT = Path(__file__).resolve().parent.parent


def spoil(source: Path, target: Path, share: float, seed: int) -> set[str]:
    """A copy with a share of the labels changed; returns the files' names, <class>/<picture>, of those."""
    files, classes = list_files(source), sorted(path.name for path in source.iterdir() if path.is_dir())
    drawn = random.Random(seed)
    changed = set(drawn.sample(range(len(files.paths)), round(share * len(files.paths))))
    names = set()
    for i, path in enumerate(files.paths):
        own = path.parent.name
        label = drawn.choice([name for name in classes if name != own]) if i in changed else own
        place = target / label / f"{i:05d}-{path.name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
        names |= {f"{label}/{place.name}"} if i in changed else set()
    return names


def judged(folder: Path, masked: list[str]) -> dict[str, float]:
    """How wrong `look`'s heads, of the training images alone, find each label: name -> 1 - probability of its own.

    Args:
        masked: the training images, by the names that end with those of files.
    """
    files, setting = list_files(folder), Look()
    net, chain = network(setting.net, files.classes)
    set_up_cpu(Runtime(device="cpu"))
    placed(net, torch.device("cpu"), Runtime(device="cpu"))
    seen = read(folder, files, chain, 10**9, lambda: None)
    images = FileSet(seen.images, torch.from_numpy(seen.labels))
    values = features(net, images, torch.device("cpu"), Silent()).values.numpy()
    training = np.array([any(image.endswith(name) for image in masked) for name in seen.names])
    labels, units = seen.labels[training], seen.units[training]
    believed = doubts(values[training], labels, units, len(seen.classes), lambda: None).believed(labels)
    return {name: 1 - float(value) for name, value in zip(np.array(seen.names)[training], believed, strict=True)}


def ranked(workspace: Path, recipe: str, seed: int) -> dict[str, dict[str, float]]:
    """The mask stage's columns of every training image."""
    proposal = propose(recipe, asked := Asked(Path("images/spoilt")), survey(asked))
    text = recipes.apply((ROOT / "params.yaml").read_text(encoding="utf-8"), proposal.text(), recipe)
    params = YAML(typ="safe").load(text)
    params["seeds"], params["data"]["stream"] = [seed], False
    (workspace / "params.yaml").write_text(json.dumps(params))
    for stage in ("prepare", "pretrain ce", "mask um"):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-m", "stages", *stage.split()], cwd=workspace, env=environment, check=True, stdout=sys.stderr)
    with (workspace / f"data/mask/um/atypical-{seed}.csv").open() as stream:
        return {row["image"]: {key: float(row[key]) for key in ("rank", "loss", "masked_loss")} for row in csv.DictReader(stream)}


def spread(values: tuple[float, ...]) -> str:
    """Mean and standard deviation (n - 1) in percent."""
    return f"{100 * np.mean(values):.1f}" + (f" +- {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--recipe", default="folder", choices=["folder", "folder-tuned"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    source, here, found = given.folder.resolve(), Path.cwd(), {}
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            changed = spoil(source, Path("images/spoilt"), given.share, seed)
            masked = ranked(Path(folder), given.recipe, seed)
            doubted = judged(Path("images/spoilt"), list(masked))
            os.chdir(here)
        names = {image: next(name for name in doubted if image.endswith(name)) for image in masked}
        wrong = np.array([names[image] in changed for image in masked])
        rankings = {
            "loss under masks": [row["masked_loss"] for row in masked.values()],
            "mask's ranking (flips first)": [-row["rank"] for row in masked.values()],
            "loss without a mask": [row["loss"] for row in masked.values()],
            "cross-validated heads (look)": [doubted[names[image]] for image in masked],
        }
        for name, values in rankings.items():
            first = np.argsort(values)[::-1][: wrong.sum()]
            found.setdefault(name, []).append((roc_auc_score(wrong, values), wrong[first].mean()))
        print(f"seed {seed}: {wrong.sum()} of {len(wrong)} training labels changed", file=sys.stderr)
    print("| ranking | AUROC | precision at the true share |\n| --- | --- | --- |")
    for name, values in found.items():
        cells = [spread(column) for column in zip(*values, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

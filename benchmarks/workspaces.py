"""A folder of its own for an experiment: a recipe's parameters, changed, and its stages as plain commands, without DVC."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ood.config import recipes  # noqa: E402  # it is found only now


def parameters(recipe: str) -> dict:
    """The parameters of a recipe, to be changed."""
    text = recipes.apply((ROOT / "params.yaml").read_text(encoding="utf-8"), recipes.overlay(recipe), recipe)
    return YAML(typ="safe").load(text)


def write(folder: Path, params: dict) -> None:
    """Make them those of the folder."""
    (folder / "params.yaml").write_text(json.dumps(params), encoding="utf-8")  # JSON is YAML


def make(folder: Path, params: dict, downloads: Path) -> Path:
    """A folder whose DAG can be run without DVC (plain.py); as it is, if it has been begun.

    Raises:
        SystemExit: it was begun with other parameters.
    """
    kept = folder / "params.yaml"
    if (folder / "done.txt").exists():
        if kept.read_text(encoding="utf-8") != json.dumps(params):
            raise SystemExit(f"{folder} holds a run with other settings. Move it away, or remove it, and call again.")
        return folder
    (folder / "images").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "dvc.yaml", folder)
    if not (folder / "downloads").is_symlink():
        (folder / "downloads").symlink_to(downloads.resolve())
    write(folder, params)
    return folder


def environment() -> dict[str, str]:
    """In which the stages of this repository are found, beside what was found before."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


def stage(folder: Path, command: str) -> None:
    """Run a stage there, e.g. 'um control', in one thread."""
    one = environment() | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "stages", *command.split()], cwd=folder, env=one, check=True, stdout=subprocess.DEVNULL)

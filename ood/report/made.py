"""How a report was made: parameters, versions, commit, seconds a stage. These differ from run to run, so only the page has them."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ood import seconds
from ood.config import Params
from ood.config.dream import Synthesize
from ood.config.evaluation import Models
from ood.report.blocks import Block, Fold, Listing, Table, Text
from ood.report.measured import Measured
from ood.report.settings import settings_table

BASIS, PARAMS = Path("data/basis"), Path("params.yaml")
PACKAGES = ("torch", "torchvision", "timm", "accelerate", "diffusers", "transformers", "scikit-learn", "scipy", "numpy", "pillow", "dvc")


def blocks(measured: Measured, params: Params) -> list[Block]:
    """All of it."""
    took = seconds.noted(stages := all_stages(params))
    rows = [[stage, f"{took[stage]:.1f}" if stage in took else "-"] for stage in sorted(stages, key=lambda stage: -took.get(stage, 0))]
    known = f"{len(took)} of {len(rows)} stages, {sum(took.values()):.0f} seconds together"
    return [
        Text(
            f"This page was written at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {commit()}, on {machine()}. Stages may have run before "
            "that, also elsewhere: `dvc.lock` knows what each was made of."
        ),
        Fold("Settings of every run", [settings_table(params, measured.masks, measured.epochs)]),
        Fold("params.yaml", [Listing(PARAMS.read_text(encoding="utf-8"))]),
        Fold("Versions here", [Table(["package", "version"], [["Python", platform.python_version()], *versions()])]),
        Fold(
            f"Seconds a stage: {known}",
            [
                Text("The last run of each on this machine, start included; of one that was stopped and went on, its last part."),
                Table(["stage", "seconds"], rows),
            ],
        ),
    ]


def all_stages(params: Params) -> list[str]:
    """Stages by DVC's names, of those that `check` has written a basis for; two have one for all of their runs."""
    runs = {"features": [*params[Models].root], "judge": [*params[Synthesize].runs]}
    found = [path.stem for path in sorted(BASIS.glob("*.json"))]
    return ["check", *(f"{stage}@{run}" if run else stage for stage in found for run in runs.get(stage, [""]))]


def versions() -> list[list[str]]:
    """Of the packages that figures depend on."""
    found = []
    for name in PACKAGES:
        try:
            found.append([name, version(name)])
        except PackageNotFoundError:
            found.append([name, "not installed"])
    return found


def commit() -> str:
    """Of the code and parameters in this folder, and whether something there was changed since; where there is no git, that."""
    head, changed = _git("rev-parse", "--short=12", "HEAD"), _git("status", "--porcelain", "--", "ood", "stages", "params.yaml", "dvc.yaml")
    if head is None:
        return "at no commit (no git here)"
    return f"at commit `{head}`" + (" with changes that aren't committed" if changed else "")


def _git(*arguments: str) -> str | None:
    try:
        found = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def machine() -> str:
    """The processor and how many cores are there."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{os.cpu_count()} cores ({name})"

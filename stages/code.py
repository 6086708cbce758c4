"""Which code every stage is made of: a list of modules a stage, so that an edit makes those stale that import it, and no others."""

from pathlib import Path

from ood.closure import ROOT, listing
from ood.files import in_place_of, write_text

OUT = Path("data/code")
APART = ("console.py", "recipe.py")  # no stages of dvc.yaml


def main() -> None:
    """Write data/code/<stage>.txt: the modules that the stage imports, with the hash of each. dvc.yaml has it among the stage's deps."""
    with in_place_of(OUT) as folder:
        for path in sorted({*(ROOT / "stages").glob("[!_]*.py")} - {ROOT / "stages" / name for name in APART}):
            write_text(folder / f"{path.stem.replace('_', '-')}.txt", listing(f"stages/{path.name}"))

"""Check all of params.yaml and the cheap facts, and write down what every stage is made of, before any other stage touches anything."""

import json
from pathlib import Path

from ood.closure import ROOT, listing
from ood.config import Params
from ood.config.data import Data
from ood.config.methods import NO_CONSTRAINT, UM, UMAP, Mask
from ood.config.training import Runtime
from ood.config.whole import check
from ood.data import catalog
from ood.files import empty, in_place_of, write_text

CODE, THRESHOLDS, NO_MASK = Path("data/code"), Path("data/thresholds"), Path("data/mask") / NO_CONSTRAINT
DEVICES = "ood/training/devices.py"  # what computes imports it
APART = ("check.py", "console.py", "recipe.py")  # no stages that others are held against


def main() -> None:
    """Check all of params.yaml and the cheap facts (folders, fonts, names): an error stops `dvc repro` here.

    What it writes is for dvc.yaml alone. data/code/<stage>.txt: the modules that a stage imports and the libraries, with the hash of each,
    and, if it computes tensors, what it computes them with; every stage depends on its own, so a good change of another parameter makes
    nothing stale by itself. data/thresholds/<stage>/<constraint>.txt, which changes as um's or umap's threshold does, and data/mask/none:
    so that runs with a constraint depend on it and others don't.
    """
    params = Params()
    check(params)
    catalog.check(params[Data])
    with in_place_of(CODE) as folder:
        for path in sorted({*(ROOT / "stages").glob("[!_]*.py")} - {ROOT / "stages" / name for name in APART}):
            made_of = listing(f"stages/{path.name}")
            computes = DEVICES in made_of
            write_text(folder / f"{path.stem.replace('_', '-')}.txt", made_of + (computed_with(params[Runtime]) if computes else ""))
    with in_place_of(THRESHOLDS) as folder:
        for stage, threshold in (("um", params[UM].threshold), ("umap", params[UMAP].threshold)):
            for constraint in params[Mask].runs:
                write_text(folder / stage / f"{constraint}.txt", f"{stage}.threshold: {threshold}\n")
            write_text(folder / stage / f"{NO_CONSTRAINT}.txt", "none\n")
    empty(NO_MASK)


def computed_with(runtime: Runtime) -> str:
    """The runtime section as a line, without what no result depends on."""
    return f"runtime: {json.dumps(runtime.model_dump(exclude={'workers'}))}\n"

"""Check all of params.yaml and the cheap facts, before any other stage touches anything."""

from pathlib import Path

from ood.config import Params
from ood.config.data import Data
from ood.config.methods import NO_CONSTRAINT, UM, UMAP, Mask
from ood.config.whole import check
from ood.data import catalog
from ood.files import empty, in_place_of, write_text

OUT = Path("data/check.txt")
# dvc.yaml can't say "depends on um.threshold if it has a constraint"; but on the file here that bears the constraint's name, it can.
THRESHOLDS, NO_MASK = Path("data/thresholds"), Path("data/mask") / NO_CONSTRAINT


def main() -> None:
    """Check all of params.yaml and the cheap facts (folders, fonts, names).

    The file it writes never changes: an error stops `dvc repro` here, a good change makes nothing stale by itself. Beside it, for dvc.yaml
    alone: data/thresholds/<stage>/<constraint>.txt, which changes as the threshold of um or umap does, and data/mask/none.
    """
    params = Params()
    check(params)
    catalog.check(params[Data])
    with in_place_of(THRESHOLDS) as folder:
        for stage, threshold in (("um", params[UM].threshold), ("umap", params[UMAP].threshold)):
            for constraint in params[Mask].runs:
                write_text(folder / stage / f"{constraint}.txt", f"{stage}.threshold: {threshold}\n")
            write_text(folder / stage / f"{NO_CONSTRAINT}.txt", "none\n")
    empty(NO_MASK)
    write_text(OUT, "params.yaml is valid\n")

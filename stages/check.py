"""Check all of params.yaml and the cheap facts, before any other stage touches anything."""

from pathlib import Path

from ood.config import Params
from ood.config.data import Data
from ood.config.whole import check
from ood.data import catalog
from ood.files import write_text

OUT = Path("data/check.txt")


def main() -> None:
    """Check all of params.yaml and the cheap facts (folders, fonts, names).

    The file it writes never changes: an error stops `dvc repro` here, a good change makes nothing stale by itself.
    """
    params = Params()
    check(params)
    catalog.check(params[Data])
    write_text(OUT, "params.yaml is valid\n")

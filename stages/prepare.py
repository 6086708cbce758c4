"""Prepare every data set: one image chain, packed arrays, roles checked, manifest, a picture of each set."""

import json
from pathlib import Path

from ood.config import Params
from ood.config.data import Data
from ood.data import catalog, cues, packing
from ood.data.items import Sets
from ood.data.packed import PREPARED
from ood.data.pictures import sheet_of_sets
from ood.data.sources.folders import told
from ood.errors import InputError
from ood.files import published, write_text
from ood.refusals import must_take
from ood.wording import of_texts
from stages.console import Console

COUNTS = Path("metrics/data.json")
PICTURE = Path("metrics/pictures/sets.png")


def main() -> None:
    """Load every source, send it through the chain, make sure that no image plays two roles, and pack."""
    data = Params()[Data]
    catalog.check(data)
    console = Console("prepare")
    must_take([PREPARED, COUNTS, PICTURE])
    sets, dropped, notices = built(data, console)
    with published(COUNTS, PICTURE, folder=PREPARED, sealed=False) as (folder, counts, picture):
        manifest = packing.save(sets, data, dropped, folder)
        console.step()
        write_text(counts, json.dumps({name: entry["count"] for name, entry in manifest.items()}, indent=1) + "\n")
        sheet_of_sets(picture, sets)
    if data.is_text:
        notices += [*(cue.told(role) for role, cue in cues.found(PREPARED).items()), *cues.lengths(PREPARED)]
    for notice in notices:
        console.note(of_texts(notice) if data.is_text else notice)
    for name, entry in manifest.items():
        left_out = {"already in a role that comes first": entry["dropped"], **entry["skipped"]}
        why = told(left_out)
        console.note(f"{name}: {entry['count']}" + (f"; left out: {why}" if why else ""))


def built(data: Data, console: Console) -> tuple[Sets, dict[str, int], list[str]]:
    """The sets; what is wrong with texts is said of texts."""
    try:
        return catalog.build(data, console.step)
    except InputError as error:
        if not data.is_text:
            raise
        raise InputError(of_texts(str(error))) from None

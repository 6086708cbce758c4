"""Look into a folder of pictures before any training: files, copies, doubtful labels, shortcuts, what it can promise."""

import hashlib
import json
import os
import re
from collections.abc import Container
from pathlib import Path
from typing import Annotated

import torch
import typer

from ood.config import Params
from ood.config.data import Data
from ood.config.look import Look
from ood.config.training import NAME, Runtime
from ood.data.sets import FileSet
from ood.files import published, write_text
from ood.look.findings import Findings, told
from ood.look.folder import Seen, list_files, read
from ood.look.labels import Doubts, doubts
from ood.look.network import network
from ood.look.pictures import contact_sheet
from ood.nets import Classifier
from ood.refusals import must_take
from ood.training.devices import accelerator_for, placed
from ood.training.frozen import features
from stages.console import Console

FOLDER, PICTURES = Path("metrics/look"), Path("metrics/pictures")


def main(folder: Annotated[str, typer.Argument(help="a folder, <folder>/<class>/<image>; or one of look.runs")]) -> None:
    """Say what is in a folder; writes metrics/look/<name>.json and a contact sheet, metrics/pictures/look-<name>.png."""
    params = Params()
    setting, runtime = params[Look], params[Runtime]
    path = setting.runs[folder].path if folder in setting.runs else Path(folder)
    name = folder if folder in setting.runs else named(path, setting.runs)
    table, sheet = FOLDER / f"{name}.json", PICTURES / f"look-{name}.png"
    must_take([table, sheet])
    files = list_files(path)
    net, chain = network(setting.net, files.classes, white=params[Data].chain.white)
    console = Console(f"look {name}")
    console.begin(len(files.paths), "file")
    seen = read(path, files, chain, params[Data].max_pixels, console.advance)
    console.note(f"{len(seen.labels)} pictures are read; what {setting.net.name} makes of them is next")
    found = Findings.of(seen, chain.side, judged(seen, net, runtime, console))
    with published(table, sheet) as (metrics, picture):
        write_text(metrics, json.dumps(found.summary, indent=1, ensure_ascii=False) + "\n")
        contact_sheet(picture, found, str(path))
    console.close()
    typer.echo("\n".join(["", *told(found, str(path)), "", f"all of it in {table}, to look at in {sheet}"]))


def named(path: Path, runs: Container[str]) -> str:
    """A folder's own name as a name of files; with a number, where that says too little or another's results are called so."""
    own = path.resolve().name.lower()
    name = re.sub(r"[^a-z0-9]+", "-", own).strip("-")[:50]
    table = FOLDER / f"{name}.json"
    if re.fullmatch(NAME, name) and name == own and name not in runs and (not table.is_file() or _folder_of(table) == path.as_posix()):
        return name
    return f"{name or 'folder'}-{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:6]}"


def _folder_of(table: Path) -> str:
    """Which folder's results a file has; none where it can't be read."""
    try:
        return str(json.loads(table.read_text(encoding="utf-8"))["folder"])
    except (ValueError, KeyError, TypeError):
        return ""


def judged(seen: Seen, net: Classifier, runtime: Runtime, console: Console) -> Doubts | None:
    """What heads on the backbone's features say of the labels; None of one class."""
    if len(seen.classes) < 2:
        return None
    device = accelerator_for(runtime).device
    images = FileSet(seen.images, torch.from_numpy(seen.labels), workers=runtime.workers)
    placed(net, device, runtime)
    values = features(net, images, device, console).values
    return doubts(values.double().numpy(), seen.labels, seen.units, len(seen.classes), console.step)

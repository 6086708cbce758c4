"""Trace a pretraining run: OOD metrics of every kept epoch, validation beside test, and the epoch that validation picks."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ood.config import Params
from ood.config.evaluation import Evaluate, Trace
from ood.config.training import Runtime, Seeds
from ood.data import packed
from ood.data.batches import at_once
from ood.data.sets import load
from ood.evaluation import tracing
from ood.evaluation.features import extract
from ood.evaluation.groups import OOD_GROUPS
from ood.evaluation.metrics import detection_metrics
from ood.files import published, write_text
from ood.nets import store
from ood.refusals import must_take
from ood.tables import HISTORIES, pick, to_csv
from ood.training.devices import accelerator_for, placed
from stages.console import Console

FOLDER = Path("metrics/trace")
PICTURES = Path("metrics/pictures")


def main(run: Annotated[str, typer.Argument(help="one of trace.runs")]) -> None:
    """Score every kept epoch of a run. The epoch is chosen on validation OOD; the test optimum is named oracle."""
    params = Params()
    seeds, trace = params[Seeds].root, params[Trace]
    score, evaluate = pick(trace.runs, run, "trace.runs"), params[Evaluate]
    outputs = [FOLDER / f"{run}.csv", FOLDER / f"{run}.json", PICTURES / f"trace-{run}.png"]
    must_take(outputs)
    runtime = params[Runtime]
    accelerator = accelerator_for(runtime)
    device, precision = accelerator.device, accelerator.autocast
    groups = {g: packed.names(g) for g, role in OOD_GROUPS.items() if role in evaluate.roles}
    ids = {role: load(f"id/{role}", workers=runtime.workers).to(device) for role in evaluate.roles}
    sets = {name: load(name, workers=runtime.workers).to(device) for members in groups.values() for name in members}
    console = Console(f"trace {run}")
    train = load("id/train", workers=runtime.workers).to(device) if trace.collapse else None
    rows: list[tracing.Row] = []
    size = at_once(device, ids["val"].side)
    for seed in seeds:
        folder = store.MODELS / run / str(seed)
        files = store.kept_epochs(folder)[:: -trace.every][::-1]  # the last is always among them
        if not rows:
            console.begin(len(seeds) * len(files), "epoch")
        net, _ = store.load(folder)
        placed(net, device, runtime)
        for file in files:
            store.load_weights(net, file)
            of = {name: tracing.score_of(score, extract(net, s, size, console.step, precision)) for name, s in (ids | sets).items()}
            row: tracing.Row = {"seed": seed, "epoch": int(file.stem)}
            for group, members in groups.items():
                each = [detection_metrics(of[OOD_GROUPS[group]], of[name], evaluate.fpr_rule) for name in members]
                row |= {f"{group}_{key}": float(np.mean([m[key] for m in each])) for key in tracing.KEYS}
            rows.append(row | (tracing.collapse(net, train, size, console.step, precision) if train is not None else {}))
            console.advance(f"seed {seed} epoch {row['epoch']} validation AUROC {row['validation_auroc']:.4f}")
    summary = tracing.summarise(rows, list(groups))
    with published(*outputs) as (table, figures, picture):
        write_text(table, to_csv(rows))
        write_text(figures, json.dumps(summary, indent=1) + "\n")
        tracing.draw(picture, f"{run}: {score} over epochs", rows, HISTORIES / f"{run}.csv", summary)
    console.note(", ".join(f"{k} {v:.4g}" for k, v in summary.items() if k.startswith(("picked", "last"))))

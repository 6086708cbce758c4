"""Evaluate every model from its cached tensors: all scores on all OOD sets, ID figures, curves and histograms."""

import json
from pathlib import Path

from ood.config import Params
from ood.config.evaluation import Evaluate, Models, Scores
from ood.config.training import Runtime, Seeds
from ood.evaluation.curves import histogram_rows, roc_rows
from ood.evaluation.features import side_by_side
from ood.evaluation.held_out import HeldOut
from ood.evaluation.models import evaluate_model, headline, overall_rows
from ood.files import published, write_text
from ood.machine import at_once
from ood.refusals import must_take
from ood.tables import to_csv
from ood.training.devices import set_up_cpu
from stages.console import Console

METRICS = Path("metrics")
DETAIL = Path("data/evaluation")
TABLES = (METRICS / "scores.csv", METRICS / "plots" / "roc.csv", METRICS / "plots" / "histograms.csv")


def main() -> None:
    """Score, measure and pick, model by model; writes metrics/<model>.json, metrics/scores.csv and the plots' data."""
    params = Params()
    seeds, models = params[Seeds].root, params[Models].root
    scores, setting = params[Scores], params[Evaluate]
    headlines = [METRICS / f"{model}.json" for model in models]
    must_take([DETAIL, *TABLES, *headlines])
    set_up_cpu(params[Runtime])
    console = Console("evaluate")
    console.begin(len(models), "model")
    results, curves, histograms = {}, [], []
    held_out = HeldOut(setting.held_out, scores, list(models.values()))
    with at_once(side_by_side(models, seeds, params[Runtime].workers), console.step) as (each, step):
        evaluated = each(lambda model: evaluate_model(model, models, seeds, scores, setting, held_out, step), models)
        for model, result in zip(models, evaluated, strict=True):
            results[model] = result.summary
            curves += roc_rows(model, result.own_scores)
            histograms += histogram_rows(model, result.own_scores)
            console.advance(f"{model}: validation picks {result.summary['picked']}")
    with published(*TABLES, *headlines, folder=DETAIL) as (folder, *tables):
        write_text(folder / "detail.json", json.dumps(results) + "\n")
        for path, rows in zip(tables[: len(TABLES)], (overall_rows(results), curves, histograms), strict=True):
            write_text(path, to_csv(rows))
        for path, summary in zip(tables[len(TABLES) :], results.values(), strict=True):
            write_text(path, json.dumps(headline(summary), indent=1) + "\n")

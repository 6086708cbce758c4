"""Evaluate every model from its cached tensors: all scores on all OOD sets, ID figures, curves and histograms."""

import json
from pathlib import Path

from ood.config import Params
from ood.config.evaluation import Evaluate, Models, Scores
from ood.config.training import Runtime, Seeds
from ood.evaluation.curves import histogram_rows, roc_rows
from ood.evaluation.models import evaluate_model, headline, overall_rows
from ood.files import in_place_of, write_text
from ood.tables import to_csv
from ood.training.devices import set_up_cpu
from stages.console import Console

METRICS = Path("metrics")
DETAIL = Path("data/evaluation")


def main() -> None:
    """Score, measure and pick, model by model; writes metrics/<model>.json, metrics/scores.csv and the plots' data."""
    params = Params()
    seeds, models = params[Seeds].root, params[Models].root
    scores, setting = params[Scores], params[Evaluate]
    set_up_cpu(params[Runtime])
    console = Console("evaluate")
    console.begin(len(models), "model")
    results, curves, histograms = {}, [], []
    for model in models:
        result = evaluate_model(model, models, seeds, scores, setting)
        results[model] = result.summary
        curves += roc_rows(model, result.own_scores)
        histograms += histogram_rows(model, result.own_scores)
        console.advance(f"{model}: validation picks {result.summary['picked']}")
    with in_place_of(DETAIL) as folder:
        write_text(folder / "detail.json", json.dumps(results) + "\n")
    write_text(METRICS / "scores.csv", to_csv(overall_rows(results)))
    write_text(METRICS / "plots" / "roc.csv", to_csv(curves))
    write_text(METRICS / "plots" / "histograms.csv", to_csv(histograms))
    for model, summary in results.items():
        write_text(METRICS / f"{model}.json", json.dumps(headline(summary), indent=1) + "\n")

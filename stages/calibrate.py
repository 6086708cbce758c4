"""Calibrate: one model and score become a detector, its threshold set on images that nothing else was chosen on."""

import json
from pathlib import Path
from typing import Any

import torch

from ood.config import Params
from ood.config.detector import Detector
from ood.config.evaluation import Evaluate, Features, Models, Scores
from ood.config.training import Runtime, Seeds
from ood.data import packed
from ood.data.sets import load
from ood.deploy import calibrated
from ood.deploy.answers import Answers, Ensemble
from ood.detection.rule import Rule
from ood.drawing import notice
from ood.evaluation import operating
from ood.evaluation.choice import Choice, choose
from ood.evaluation.members import member_of
from ood.files import published, write_text
from ood.handover import read_json
from ood.refusals import must_take
from ood.tables import to_csv
from ood.training.devices import set_up_cpu
from stages.console import Console

DETAIL = Path("data/evaluation/detail.json")
FIGURES, TABLE, PICTURE = Path("metrics/detector.json"), Path("metrics/plots/detector.csv"), Path("metrics/pictures/detector.png")


def main() -> None:
    """Choose, fit, calibrate; then say what the threshold does on ID test and every OOD set, unless no test figure is asked for."""
    params, console = Params(), Console("calibrate")
    setting, seeds = params[Detector], params[Seeds].root
    must_take([calibrated.CALIBRATED, FIGURES, TABLE, PICTURE])
    if setting.model is None:
        return leave(console)
    choice = choose(setting, read_json(DETAIL, "evaluate", dict[str, dict[str, Any]]), params[Models].root)
    console.note(f"{choice.model} with {choice.score}, AUROC {choice.by:.1%} on validation OOD")
    seeds = seeds if setting.ensemble else seeds[:1]
    ensemble = assembled(params, choice, seeds)
    testing = "test" in params[Evaluate].roles
    outside = [name for role in ("near", "far") for name in packed.names(role)] if testing else []
    answers = asked(ensemble, [calibrated.CALIBRATION, *(["id/test"] if testing else []), *outside], params[Runtime], console)
    rule = Rule.of(setting, answers[calibrated.CALIBRATION].scores, answers[calibrated.CALIBRATION].predicted, packed.info().classes)
    tested = operating.Tested(answers["id/test"], packed.labels("id/test"), {name: answers[name] for name in outside}) if testing else None
    figures = operating.figures(rule, tested, setting.price) if tested else None
    found = calibrated.Calibrated.of(*choice, seeds, ensemble, rule)
    with published(FIGURES, TABLE, PICTURE, folder=calibrated.CALIBRATED) as (folder, headline, table, picture):
        calibrated.save(folder, found, ensemble, answers, figures)
        write_text(headline, json.dumps(operating.headline(figures) if figures else {}, indent=1) + "\n")
        write_text(table, to_csv(operating.over_rates(rule, tested, setting.price)))
        if tested:
            operating.draw(picture, f"{found.model}, {found.score}, on {found.images} calibration images", rule, tested)
        else:
            notice(picture, "No test figure is asked for (evaluate.roles).")
    for line in operating.told(rule, figures):
        console.note(line)


def leave(console: Console) -> None:
    """No detector is wanted: the outputs say so."""
    with published(FIGURES, TABLE, PICTURE, folder=calibrated.CALIBRATED) as (folder, headline, table, picture):
        calibrated.save_none(folder)
        write_text(headline, "{}\n")
        write_text(table, "guarantee\n")
        notice(picture, "No detector is made (detector.model: null).")
    console.note("no detector is made (detector.model: null)")


def assembled(params: Params, choice: Choice, seeds: list[int]) -> Ensemble:
    """The networks of these seeds, each with its score fitted."""
    set_up_cpu(params[Runtime])  # where detectors are used, so that a GPU's last bits aren't what a threshold is set by
    device = torch.device("cpu")
    scores, odin = params[Scores], params[Features].odin
    members = [member_of(choice.model, seed, choice.score, scores, odin, params[Runtime], device) for seed in seeds]
    return Ensemble(tuple(members), 1).steady()


def asked(ensemble: Ensemble, names: list[str], runtime: Runtime, console: Console) -> dict[str, Answers]:
    """What the detector says of prepared sets."""
    console.begin(len(names), "set")
    answers = {}
    for name in names:
        answers[name] = ensemble.over(load(name, workers=runtime.workers), console.step)
        console.advance(name)
    return answers

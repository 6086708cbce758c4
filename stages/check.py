"""Check all of params.yaml and the cheap facts, and write down what every stage stands on, before any other stage touches anything."""

from pathlib import Path

from ood.config import Params, basis
from ood.config.data import Data
from ood.config.detector import Detector
from ood.config.dream import Align, Diffusion
from ood.config.look import Look
from ood.config.methods import NO_CONSTRAINT
from ood.config.nets import Net
from ood.config.training import Pretrain
from ood.config.whole import check, check_against
from ood.data import catalog
from ood.detection import rule
from ood.errors import InputError
from ood.files import empty, in_place_of
from stages.console import Console

BASIS, NO_MASK = Path("data/basis"), Path("data/mask") / NO_CONSTRAINT


def _given(params: Params, classes: list[str] | None) -> list[str]:
    """Look at networks and weights that come from elsewhere; what is to be said of them.

    Raises:
        InputError: what `ood.nets.weights.check` finds.
    """
    pretrain, net, align = params[Pretrain], params[Net], params[Align]
    encoder = (align.net or net) if params[Diffusion].enabled else None
    read = params[Data].is_text and params[Data].text.tokenizer
    used = [*((run.net or net) for run in pretrain.runs.values()), *([encoder] if encoder else [])]
    if not any(one.given or one.weights for one in used) and not any(run.weights for run in pretrain.runs.values()) and not read:
        return []
    from ood.nets import weights  # and with it torch, which takes seconds

    problems = [f"{params.path}: {problem}" for problem in weights.check(pretrain, net, encoder, params[Data], classes)]
    if problems:
        raise InputError("\n".join(problems))
    return list(weights.advice(pretrain, net, params[Data]))


def main() -> None:
    """Check all of params.yaml and the cheap facts (folders, fonts, names): an error stops `dvc repro` here.

    What it writes is for dvc.yaml alone. data/basis/<stage>.json, of a run <stage>@<run>.json: the settings that count for it, each with
    its value, the modules that it imports and the libraries, each with its hash. Every stage depends on its own, so a change makes stale
    what it reaches and nothing else; a line says what that is. data/mask/none: the mask of runs without a constraint.
    """
    params, console = Params(), Console("check")
    check(params)
    facts = catalog.check(params[Data])
    check_against(params, facts.classes, facts.training)
    rule.check(params[Detector], facts.calibration, len(facts.classes or []) or 1)
    for notice in _given(params, facts.classes):
        console.note(notice)
    looked = {f"look.runs.{name}": run.path for name, run in params[Look].runs.items()}
    nets = {"net": params[Net]} | {f"pretrain.runs.{name}.net": run.net for name, run in params[Pretrain].runs.items() if run.net}
    nets |= {"align.net": encoder} if (encoder := params[Align].net) else {}
    networks = {key: path for key, net in nets.items() if (path := net.place)}
    for notice in catalog.unwatched(params[Data], looked, networks):
        console.note(notice)
    old, new = basis.read(BASIS), basis.bases(params)
    with in_place_of(BASIS, sealed=False) as folder:
        for stage, found in new.items():
            basis.write(found, folder / f"{stage}.json")
    empty(NO_MASK)
    for sentence in basis.told(basis.changes(old, new)):
        console.note(sentence)

"""What the other stages measured: all that the report is made of, beside the parameters."""

import json
from dataclasses import dataclass
from pathlib import Path

from ood.config import Params
from ood.config.evaluation import Models, Trace
from ood.config.methods import OE, UM, UMAP
from ood.errors import InputError
from ood.report.dream import Dreams
from ood.report.tables import Results
from ood.tables import HISTORIES, last_mean

Levels = dict[str, tuple[float | None, float | None]]


@dataclass(frozen=True)
class Measured:
    """results: model -> its summary (ood.evaluation.models). manifest: of the prepared data. masks: metrics/mask.json. traces: run ->
    metrics/trace/<run>.json. levels: run -> the loss constraint it was told to hold (None: none) and its last training loss. dreams: None
    where DREAM-OOD is left out.
    """

    results: Results
    manifest: dict[str, dict]
    masks: dict[str, float]
    traces: dict[str, dict[str, float]]
    levels: Levels
    dreams: Dreams | None

    @classmethod
    def read(cls, params: Params) -> "Measured":
        """From the files that the stages wrote, of the models and runs that are listed now.

        Raises:
            InputError: a stage hasn't run.
        """
        results, masks = written("data/evaluation/detail.json", "evaluate"), written("metrics/mask.json", "mask")
        return cls(
            results={model: results[model] for model in params[Models].root},
            manifest=written("data/prepared/manifest.json", "prepare"),
            masks=masks,
            traces={run: written(f"metrics/trace/{run}.json", f"trace {run}") for run in params[Trace].runs},
            levels=levels(params, masks["constraint"]),
            dreams=Dreams.read(params),
        )

    @property
    def withheld(self) -> list[str]:
        """Models whose figures mean nothing, because the painter of what they trained with has not learned the ID classes."""
        return [model for model in self.results if self.dreams is not None and model in self.dreams.meaningless]

    @property
    def shown(self) -> Results:
        """The results of the others."""
        return {model: summary for model, summary in self.results.items() if model not in self.withheld}


def written(path: str, stage: str) -> dict:
    """What another stage wrote.

    Raises:
        InputError: it hasn't run.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: not there. Run `python -m stages {stage}` first (or `dvc repro`).")
    return json.loads(Path(path).read_text(encoding="utf-8"))


def levels(params: Params, estimate: float) -> Levels:
    """Of every run that holds its loss at a level, and of those runs' controls: the level, and where the loss ended."""
    um, umap = params[UM].threshold, params[UMAP].threshold
    told = {"um": um, "umap": umap} | {name: um for name, run in params[OE].runs.items() if run.constraint == "um"}
    told = {name: estimate if b is None else b for name, b in told.items()} | {"control": None, "umap-control": None}
    return {name: (b, last_mean(HISTORIES / f"{name}.csv", "ce")) for name, b in sorted(told.items())}

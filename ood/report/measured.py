"""What the other stages measured: all that the report is made of, beside the parameters."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from ood.config import Params
from ood.config.evaluation import Models, Trace
from ood.config.methods import OE, UM, UMAP, FineTune, Mask
from ood.config.training import Epochs
from ood.data import packed
from ood.deploy import calibrated
from ood.deploy.calibrated import Calibrated
from ood.errors import InputError
from ood.handover import read_figures, read_json, read_table
from ood.report.dream import Dreams
from ood.report.tables import Results
from ood.tables import last_mean

DETAIL, PLOTS = Path("data/evaluation/detail.json"), Path("metrics/plots")
MASKED = ("constraint", "constraint_std_over_masks", "guessing", "destroyed", "dense_loss", "memorised", "share_flipped_by_any_mask")
MARGINS = ("median_margin_flipped", "median_margin_rest")  # null where no image was flipped, or all were
TRACED = ("picked_epoch", "last_epoch", "picked_validation_auroc", "last_validation_auroc")
Row = dict[str, str]
Levels = dict[str, tuple[float | None, float | None]]


class Kept(TypedDict):
    """metrics/epoch/<name>.json: seed -> which epoch it is."""

    epoch: dict[str, float]


@dataclass(frozen=True)
class Measured:
    """results: model -> its summary (ood.evaluation.models). manifest: of the prepared data. masks, traces: run -> metrics/mask/<run>.json,
    metrics/trace/<run>.json. epochs: kept epoch's name -> seed -> which it is. levels: run -> the loss constraint it was told to hold
    (None: none) and its last training loss. dreams: None where DREAM-OOD is left out. detector: its facts, None where none was made;
    operating: what its threshold does on test images, None where no test figure was asked for. rates, roc, histograms: rows of
    metrics/plots/{detector,roc,histograms}.csv.
    """

    results: Results
    manifest: dict[str, packed.Entry]
    masks: dict[str, dict[str, float | None]]
    traces: dict[str, dict[str, float]]
    epochs: dict[str, dict[str, float]]
    levels: Levels
    dreams: Dreams | None
    detector: Calibrated | None
    operating: dict[str, Any] | None
    rates: list[Row]
    roc: list[Row]
    histograms: list[Row]

    @classmethod
    def read(cls, params: Params) -> "Measured":
        """From the files that the stages wrote, of the models and runs that are listed now.

        Raises:
            InputError: a stage hasn't run.
        """
        results = read_json(DETAIL, "evaluate", dict[str, dict[str, Any]])
        if missing := [model for model in params[Models].root if model not in results]:
            raise InputError(f"{DETAIL}: {missing[0]} is missing in it. Run `python -m stages evaluate` again.")
        masks = {run: read_figures(Path(f"metrics/mask/{run}.json"), f"mask {run}", MASKED, MARGINS) for run in params[Mask].runs}
        return cls(
            results={model: results[model] for model in params[Models].root},
            manifest=packed.manifest(),
            masks=masks,
            traces={run: read_figures(Path(f"metrics/trace/{run}.json"), f"trace {run}", TRACED) for run in params[Trace].runs},
            epochs={name: read_json(Path(f"metrics/epoch/{name}.json"), f"epoch {name}", Kept)["epoch"] for name in params[Epochs].root},
            levels=levels(params, masks),
            dreams=Dreams.read(params),
            detector=calibrated.load(),
            operating=calibrated.load_figures(),
            rates=read_table(PLOTS / "detector.csv", "calibrate", ("guarantee",)),
            roc=read_table(PLOTS / "roc.csv", "evaluate", ("model", "group", "false positive rate", "true positive rate")),
            histograms=read_table(PLOTS / "histograms.csv", "evaluate", ("model", "group", "score", "share")),
        )

    @property
    def names(self) -> set[str]:
        """What people have named: classes and sets."""
        return {*self.manifest["id/train"]["classes"], *self.manifest, *(name.partition("/")[2] for name in self.manifest)}

    @property
    def withheld(self) -> list[str]:
        """Models whose figures mean nothing, because the painter of what they trained with has not learned the ID classes."""
        return [model for model in self.results if self.dreams is not None and model in self.dreams.meaningless]

    @property
    def shown(self) -> Results:
        """The results of the others.

        Raises:
            InputError: there are none.
        """
        found = {model: summary for model, summary in self.results.items() if model not in self.withheld}
        if not found:
            raise InputError(
                "every model was trained with dreams of a painter that hasn't learned the ID classes. Evaluate one that wasn't."
            )
        return found


def levels(params: Params, masks: dict[str, dict[str, float | None]]) -> Levels:
    """Of runs that hold their mean loss at a level, and all of umap and um but selective ones: the level (mean over seeds), and where the
    loss ended.
    """
    um, umap, oe = params[UM], params[UMAP], params[OE]
    plain = {name: run for name, run in um.runs.items() if run.forget is None}
    held = {name: run for name, run in oe.runs.items() if run.constrained}
    stages = (("um", um.threshold, plain), ("umap", umap.threshold, umap.runs), ("oe", um.threshold, held))
    return {
        name: (level(run, threshold, masks), last_mean(name, stage, "ce"))
        for stage, threshold, runs in stages
        for name, run in runs.items()
    }


def level(run: FineTune, threshold: float | None, masks: dict[str, dict[str, float | None]]) -> float | None:
    """b of a run: its own threshold, else its stage's, else the estimate; None without a constraint."""
    if not run.constrained:
        return None
    given = run.given(threshold)
    return masks[run.constraint]["constraint"] if given is None else given

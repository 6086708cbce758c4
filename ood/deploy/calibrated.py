"""What calibrate hands to export: which model and score, everything that was fitted, what the calibration images got.

data/calibrated/detector.json         Calibrated
data/calibrated/<seed>/               model.safetensors and model.json, as the network was trained; score.safetensors: what its score fitted
data/calibrated/figures.json          what its threshold does on test images (ood.evaluation.operating); null where none are asked for
data/calibrated/answers.safetensors   '<set>:scores' and '<set>:predicted' (n,) of calibration/id and, where they are asked for, test sets;
                                      'probe:scores': of noise (Ensemble.probe)
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor

from ood.deploy.answers import Answers, Ensemble
from ood.detection import detectors
from ood.detection.guarantee import Guarantee
from ood.detection.rule import Rule
from ood.files import link_or_copy, write_text
from ood.handover import checked, read_json, read_tensors
from ood.nets import store

CALIBRATED = Path("data/calibrated")
CALIBRATION = "calibration/id"


@dataclass(frozen=True)
class Calibrated:
    """A detector's facts.

    picked: whether validation chose both model and score. by, held_out: AUROC on validation OOD, and on ID classes that were held out.
    temperatures: of each seed's network. batch: images at a time. reject, guarantee, confidence, per_class: the rule. images: how many its
    thresholds rest on. thresholds: of each guarantee that can be given at that rate: one for all, or one for each predicted class.
    """

    model: str
    score: str
    picked: bool
    by: float
    held_out: float | None
    seeds: list[int]
    temperatures: list[float]
    batch: int
    reject: float
    guarantee: Guarantee
    confidence: float
    per_class: bool
    images: int
    thresholds: dict[str, list[float]]

    @classmethod
    def of(
        cls, model: str, score: str, picked: bool, by: float, held_out: float | None, seeds: list[int], ensemble: Ensemble, rule: Rule
    ) -> "Calibrated":
        """The facts of networks and a rule."""
        return cls(
            model=model,
            score=score,
            picked=picked,
            by=by,
            held_out=held_out,
            seeds=seeds,
            temperatures=[member.temperature for member in ensemble.members],
            batch=ensemble.batch,
            reject=rule.reject,
            guarantee=rule.promise,
            confidence=rule.confidence,
            per_class=rule.per_class,
            images=len(rule.calibration),
            thresholds=rule.all_thresholds,
        )


def save_none(folder: Path) -> None:
    """Write that there is none."""
    for name in ("detector.json", "figures.json"):
        write_text(folder / name, "null\n")


def save(folder: Path, calibrated: Calibrated, ensemble: Ensemble, answers: dict[str, Answers], figures: dict[str, Any] | None) -> None:
    """Write the folder."""
    write_text(folder / "detector.json", json.dumps(asdict(calibrated), indent=1) + "\n")
    write_text(folder / "figures.json", json.dumps(figures, indent=1) + "\n")
    for seed, member in zip(calibrated.seeds, ensemble.members, strict=True):
        (folder / str(seed)).mkdir()
        for name in ("model.safetensors", "model.json"):
            link_or_copy(checked(store.MODELS / calibrated.model / str(seed) / name, None), folder / str(seed) / name)
        state = member.score.state if isinstance(member.score, detectors.Detector) else {}
        store.save_weights(folder / str(seed) / "score.safetensors", state)
    said = {f"{name}:scores": torch.from_numpy(found.scores) for name, found in answers.items()}
    said |= {f"{name}:predicted": torch.from_numpy(found.predicted) for name, found in answers.items()}
    said["probe:scores"] = torch.from_numpy(ensemble.probe())
    store.save_weights(folder / "answers.safetensors", said)


def load(folder: Path = CALIBRATED) -> Calibrated | None:
    """A calibrated detector's facts; None where none was made (detector.model: null).

    Raises:
        InputError: `calibrate` hasn't run.
    """
    return read_json(folder / "detector.json", "calibrate", Optional[Calibrated])  # type: ignore[arg-type]  # noqa: UP045 - a type, to mypy


def load_figures(folder: Path = CALIBRATED) -> dict[str, Any] | None:
    """What its threshold does on test images."""
    return read_json(folder / "figures.json", "calibrate", Optional[dict[str, Any]])  # type: ignore[arg-type]  # noqa: UP045


def load_answers(folder: Path = CALIBRATED) -> dict[str, Tensor]:
    """What the detector said, see above."""
    return read_tensors(folder / "answers.safetensors", "calibrate")

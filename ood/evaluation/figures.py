"""The figures of one network: ID, every score on every OOD set, errors found, calibration, accuracy on harder ID."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ood.detection import scores
from ood.evaluation import calibration, metrics
from ood.evaluation.features import LABELLED, Cached
from ood.evaluation.groups import GROUPS, members_in
from ood.evaluation.scoring import Table

Grid = dict[str, dict[str, dict[str, float]]]  # score -> OOD set -> metric


@dataclass
class SeedResult:
    """Figures of one model and seed. grid: score -> OOD set -> metric; id: role -> figure; corrupted, shifted: set -> accuracy.

    errors: score -> detection metrics with misclassified ID test images in the place of OOD, and how many there are ('count'); empty
    where none is wrong, or none right. calibration: see calibration.as_oe_measures. held_out: score -> class -> AUROC; see held_out.
    """

    grid: Grid = field(default_factory=dict)
    id: dict[str, dict[str, float]] = field(default_factory=dict)
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    calibration: dict[str, float] = field(default_factory=dict)
    corrupted: dict[str, float] = field(default_factory=dict)
    shifted: dict[str, float] = field(default_factory=dict)
    held_out: dict[str, dict[str, float]] = field(default_factory=dict)


def evaluate_seed(cached: Cached, table: Table, roles: Sequence[str], rule: metrics.Rule) -> SeedResult:
    """Validation OOD against ID validation, test OOD against ID test; a role that isn't asked for isn't computed."""
    result = SeedResult()
    for role in roles:
        result.id[role] = id_figures(cached.sets[f"id/{role}"])
    if "test" in roles:
        result.errors = errors_found(cached.sets["id/test"], table, rule)
        result.calibration = calibration.as_oe_measures(
            _labelled(cached.sets["id/val"]),
            _labelled(cached.sets["id/test"]),
            {name: _labelled(cached.sets[name])[0] for group in ("near", "far") for name in cached.names(group)},
        )
        for role in LABELLED:
            for name in cached.names(role):
                tensors = cached.sets[name]
                accuracy = metrics.accuracy(tensors["logits"].numpy(), tensors["labels"].numpy())
                getattr(result, role)[name.removeprefix(f"{role}/")] = accuracy
    for score, by_set in table.items():
        result.grid[score] = {
            name: metrics.detection_metrics(by_set[f"id/{GROUPS[group]}"], by_set[name], rule)
            for group, members in members_in(by_set).items()
            if GROUPS[group] in roles
            for name in members
        }
    return result


def id_figures(tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    """Accuracy, NLL (nats), ECE (15 bins) and RMS calibration error of an ID set; masked nets also with the mask taken off."""
    logits, labels = tensors["logits"].double().numpy(), tensors["labels"].numpy()
    confidence = -scores.msp(tensors["logits"].double()).numpy()
    correct = (logits.argmax(1) == labels).astype(np.float64)
    figures = {
        "accuracy": float(correct.mean()),
        "nll": metrics.negative_log_likelihood(logits, labels),
        "ece": calibration.expected_error(confidence, correct),
        "rms_calibration_error": calibration.rms_error(confidence, correct),
    }
    if "unmasked_logits" in tensors:
        figures["accuracy_unmasked"] = metrics.accuracy(tensors["unmasked_logits"].numpy(), labels)
    return figures


def errors_found(tensors: dict[str, torch.Tensor], table: Table, rule: metrics.Rule) -> dict[str, dict[str, float]]:
    """How well every score tells misclassified ID test images from the others (error detection, as in OE's code)."""
    logits, labels = _labelled(tensors)
    wrong = logits.argmax(1) != labels
    if not 0 < wrong.sum() < len(wrong):
        return {}
    count = {"count": float(wrong.sum())}
    found = {score: by_set["id/test"] for score, by_set in table.items()}
    return {score: metrics.detection_metrics(values[~wrong], values[wrong], rule) | count for score, values in found.items()}


def _labelled(tensors: dict[str, torch.Tensor]) -> tuple[NDArray, NDArray]:
    return tensors["logits"].double().numpy(), tensors["labels"].numpy()

"""A training run followed epoch by epoch: which epoch would one have stopped at, and what would it have been worth?"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ood.data.sets import Images
from ood.detection import scores
from ood.evaluation import metrics
from ood.evaluation.collapse import neural_collapse
from ood.evaluation.features import extract
from ood.evaluation.pictures import trace_curves
from ood.handover import read_numbers
from ood.nets import Classifier
from ood.training.devices import Precision

KEYS = ("auroc", "fpr_ood_at_tpr95_id")
Row = dict[str, float]


def score_of(name: str, tensors: dict[str, Tensor]) -> NDArray:
    """A score that needs no fitting, from one set's logits and features."""
    source = tensors["features"] if name == "feature_norm" else tensors["logits"].double()
    return getattr(scores, name)(source).numpy()


def worth(
    net: Classifier,
    by: str,
    known: Images,
    unknown: list[Images],
    batch_size: int,
    tick: Callable[[], None],
    precision: Precision = nullcontext,
) -> float:
    """What validation says of a network, larger = better: accuracy on ID, or a score's AUROC on validation OOD, mean over sets."""
    seen = extract(net, known, batch_size, tick, precision)
    if by == "accuracy":
        return metrics.accuracy(seen["logits"].numpy(), seen["labels"].numpy())
    own = score_of(by, seen)
    others = [score_of(by, extract(net, images, batch_size, tick, precision)) for images in unknown]
    return float(np.mean([metrics.detection_metrics(own, other)["auroc"] for other in others]))


def collapse(net: Classifier, train: Images, batch_size: int, tick: Callable[[], None], precision: Precision = nullcontext) -> Row:
    """Neural collapse of the training set, on raw features and on their directions: 'nc1_raw', 'nc1_unit', ..."""
    found = extract(net, train, batch_size, tick, precision)
    weight, decided = net.fc.weight.detach().cpu(), found["logits"].argmax(1)
    kinds = {"raw": found["features"], "unit": F.normalize(found["features"], dim=1)}
    measured = {kind: neural_collapse(features, found["labels"], weight, decided) for kind, features in kinds.items()}
    return {f"{key}_{kind}": value for kind, values in measured.items() for key, value in values.items()}


def summarise(rows: list[Row], groups: list[str]) -> dict[str, float]:
    """The epoch that validation OOD picks (highest AUROC, mean over seeds) with its figures, the last epoch's, and the test oracle's."""
    epochs = _epochs(rows)
    table = {f"{group}_{key}": _grid(rows, f"{group}_{key}") for group in groups for key in KEYS}
    picked = int(table["validation_auroc"].mean(0).argmax())
    summary: dict[str, float] = {"picked_epoch": epochs[picked], "last_epoch": epochs[-1]}
    for name, values in table.items():
        summary[f"picked_{name}"] = float(values[:, picked].mean())
        summary[f"last_{name}"] = float(values[:, -1].mean())
    tests = [group for group in groups if group != "validation"]
    if tests:
        best = int(np.mean([table[f"{group}_auroc"] for group in tests], axis=(0, 1)).argmax())
        summary["oracle_epoch"] = epochs[best]
        summary |= {f"oracle_{group}_auroc": float(table[f"{group}_auroc"][:, best].mean()) for group in tests}
    for key in (key for key in rows[0] if key.startswith("nc")):
        summary[f"last_{key}"] = float(_grid(rows, key)[:, -1].mean())
    return summary


def draw(path: Path, title: str, rows: list[Row], history: Path, summary: dict[str, float]) -> None:
    """AUROC over epochs above the training loss, which `history` (metrics/training/<run>.csv) holds."""
    groups = [key.removesuffix("_auroc") for key in rows[0] if key.endswith("_auroc")]
    curves = {group: _grid(rows, f"{group}_auroc") for group in groups}
    logged = read_numbers(history, f"pretrain {history.stem}", ("seed", "epoch", "loss"))
    loss = {(r["seed"], r["epoch"]): r["loss"] for r in logged}
    epochs = _epochs(rows)
    # An epoch that the table lacks, because it was cut by hand, is a gap in the curve.
    losses = np.array([[loss.get((seed, epoch), np.nan) for epoch in epochs] for seed in sorted({r["seed"] for r in rows})])
    oracle = summary.get("oracle_epoch")
    collapsing = {kind: _grid(rows, f"nc1_{kind}") for kind in ("raw", "unit") if f"nc1_{kind}" in rows[0]}
    marks = int(summary["picked_epoch"]), None if oracle is None else int(oracle)
    trace_curves(path, title, epochs, curves, losses, collapsing, *marks)


def _epochs(rows: list[Row]) -> list[int]:
    return sorted({int(row["epoch"]) for row in rows})


def _grid(rows: list[Row], key: str) -> NDArray:
    """Values of a column, (seeds, epochs)."""
    at = {(row["seed"], row["epoch"]): row[key] for row in rows}
    return np.array([[at[seed, epoch] for epoch in _epochs(rows)] for seed in sorted({row["seed"] for row in rows})])

"""The confidence branch (DeVries and Taylor 2018) and OE on it: formulas, the budget's price, what may start from what, the score."""

import json
import math
import re

import numpy as np
import pytest
import torch
from conftest import PLAIN, Workspace, refusal
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from ood import nets
from ood.config.evaluation import Scores
from ood.detection import detectors
from ood.detection.scores import Confidence as Score
from ood.detection.scores import Head
from ood.training.objectives import Confidence


def by_hand(logits: Tensor, labels: Tensor, sure: Tensor, hinted: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's equations, term by term: -log of the hinted prediction at the label, and -log c."""
    p, c = logits.softmax(1), sure.sigmoid()[:, None]
    target = torch.nn.functional.one_hot(labels, logits.shape[1])
    mixed = torch.where(hinted[:, None], c * p + (1 - c) * target, p)
    return -(mixed.log() * target).sum(1).mean(), -c.log().mean()


def drawn(count: int = 12, classes: int = 4, outliers: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count + outliers, classes, generator=generator, dtype=torch.float64)
    return logits, torch.arange(count) % classes, torch.randn(count + outliers, generator=generator, dtype=torch.float64)


def test_the_loss_is_the_papers():
    logits, labels, sure = drawn()
    objective = Confidence(0.3)
    torch.manual_seed(3)
    hinted = torch.rand(sure.shape) < 0.5
    assert 0 < hinted.sum() < len(hinted)
    torch.manual_seed(3)
    loss, terms = objective(logits, labels, None, sure=sure)
    task, asked = by_hand(logits, labels, sure, hinted)
    assert loss.item() == pytest.approx((task + 0.1 * asked).item())
    assert terms["hints"].item() == pytest.approx(asked.item())
    assert terms["ce"].item() == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item())


def test_outliers_are_taught_little_confidence_down_to_a_floor():
    """+ weight E[log b]; without a floor the term would have no lowest value."""
    logits, labels, sure = drawn(outliers=5)
    torch.manual_seed(3)
    plain, _ = Confidence(0.3)(logits[:12], labels, None, sure=sure[:12])
    objective = Confidence(0.3, weight=0.5)
    sure.requires_grad_()
    torch.manual_seed(3)
    # the same hints: they are drawn for all, and the first of them are ID's
    loss, terms = objective(logits[:12], labels, logits[12:], sure=sure)
    assert terms["outlier"].item() == pytest.approx(sure[12:].sigmoid().log().mean().item())
    assert loss.item() == pytest.approx(plain.item() + 0.5 * terms["outlier"].item())
    loss.backward()
    assert (sure.grad[12:] > 0).all(), "descent lowers the confidence of outliers"
    least = torch.cat([sure[:12].detach(), torch.full((5,), -30.0, dtype=torch.float64)]).requires_grad_()
    loss, terms = objective(logits[:12], labels, logits[12:], sure=least)
    loss.backward()
    assert terms["outlier"].item() == pytest.approx(math.log(1e-4))
    assert (least.grad[12:] == 0).all()


def test_the_price_of_hints_moves_towards_the_budget():
    logits, labels, _ = drawn()
    objective = Confidence(0.3)
    unsure, certain = torch.full((12,), -2.0), torch.full((12,), 4.0)  # hints of 2.13 and of 0.02 nats
    objective(logits, labels, None, sure=unsure)
    assert objective.price.item() == pytest.approx(0.1 / 0.99)
    objective(logits, labels, None, sure=certain)
    assert objective.price.item() == pytest.approx(0.1 / 0.99 / 1.01)
    assert "price" in objective.state_dict(), "it goes on where a stopped training was"


def test_extreme_logits_give_finite_gradients():
    logits = torch.tensor([[60.0, -60.0], [-60.0, 60.0]], requires_grad=True)
    sure = torch.tensor([-90.0, 90.0], requires_grad=True)
    loss, _ = Confidence(0.3)(logits, torch.tensor([1, 1]), None, sure=sure)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(sure.grad).all()


def test_the_score_is_minus_the_branchs_word_of_what_the_head_sees():
    torch.manual_seed(0)
    net = nets.build("wrn_10_1", num_classes=4, size=8, normalize=True, confident=True).eval()
    images = torch.rand(6, 3, 8, 8)
    with torch.no_grad():
        raw = net.features(images)
        logits, sure = net.with_confidence(images)
        assert torch.equal(logits, net(images))
    head = Head(net.fc.weight.detach(), net.fc.bias.detach(), True, (net.confidence.weight.detach(), net.confidence.bias.detach()))
    outputs = detectors.Outputs.of(head, logits, raw)
    fitted = detectors.fit(["confidence"], head, outputs, torch.arange(6) % 4, logits, Scores())["confidence"]
    assert torch.allclose(fitted(outputs), -sure.double().sigmoid(), atol=1e-7)
    bare = Head(head.weight, head.bias, True)  # as the network of a detector is: the score brings the branch along
    assert torch.equal(detectors.restored("confidence", bare, Scores(), fitted.state)(outputs), fitted(outputs))
    with pytest.raises(ValueError, match="doesn't have"):
        Score().fit(bare)
    assert "confidence" not in detectors.wanted(Scores(), ["confidence"])
    assert "confidence" in detectors.wanted(Scores(), head=head)


OUTLIERS = {"outliers": "prepared/auxiliary"}
SETTINGS = {
    "seeds": [0],
    "pretrain.runs": {"ce": {}, "branch": {"confidence": 0.3}},
    "um.runs": {},
    "umap.runs": {},
    "trace.runs": {},
    "mask.runs": {},
    "epochs": {},
    "diffusion.enabled": False,
    "embed.runs": {},
    "synthesize.runs": {},
    "oe.runs": {
        "branch-oe": PLAIN | OUTLIERS | {"init": "branch", "objective": "confidence"},
        "branch-control": PLAIN | OUTLIERS | {"init": "branch", "objective": "none"},
    },
    "models": {"ce": "msp", "branch": "confidence", "branch-oe": "confidence", "branch-control": "confidence"},
    "report.pairs": {"branch": "ce", "branch-oe": "branch-control"},
    "detector.model": "branch-oe",
    "detector.score": "confidence",
    "features.train": 40,
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pretrain.runs.branch.tau": 1.0}, "confidence has an objective of its own"),
        ({"pretrain.runs.branch.strong": {"label_smoothing": 0.1}}, "branch: a hint shows an image's one label"),
        ({"oe.runs.x": PLAIN | OUTLIERS | {"objective": "confidence"}}, "x.objective: confidence, but 'ce' has no such branch"),
        ({"oe.runs.x": PLAIN | OUTLIERS | {"init": "branch", "objective": "uniform"}}, "x.init: 'branch' has a confidence branch"),
        ({"um.runs.x": PLAIN | {"init": "branch"}}, "um.runs.x.init: 'branch' has a confidence branch"),
        ({"models.ce": "confidence"}, "models.ce: its own score is confidence"),
        ({"detector.model": "ce"}, "detector.score: confidence, but 'ce' has no such branch"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, changes, words):
    assert re.search(words, refusal(tmp_path, SETTINGS, changes))


@pytest.mark.slow
def test_a_branch_from_training_to_a_detector(tmp_path):
    """Trained with and without outliers, scored by its own word beside a plain net, calibrated on it, exported, asked."""
    workspace = Workspace(tmp_path, SETTINGS)
    runs = ("pretrain ce", "pretrain branch", "oe branch-oe", "oe branch-control")
    for stage in ("prepare", *runs, *(f"features {model}" for model in SETTINGS["models"]), "evaluate", "calibrate", "export", "report"):
        workspace.stage(stage)
    seen = load_file(tmp_path / "data/features/branch/0.safetensors")
    assert torch.bincount(seen["id/train:labels"]).tolist() == [5] * 8, "features.train: as many of each class as can be"
    assert len(seen["id/test:labels"]) > 100
    history = (tmp_path / "metrics/training/branch-oe.csv").read_text().splitlines()
    assert {"hints", "price", "outlier"} <= set(history[0].split(","))
    assert "outlier" not in (tmp_path / "metrics/training/branch-control.csv").read_text().splitlines()[0]
    rows = [line.split(",")[:2] for line in (tmp_path / "metrics/scores.csv").read_text().splitlines()]
    assert {model for model, score in rows if score == "confidence"} == {"branch", "branch-oe", "branch-control"}
    report = (tmp_path / "metrics/report.md").read_text()
    assert "confidence vs msp" in report
    config = json.loads((tmp_path / "data/detector/config.json").read_text())
    assert config["score"] == "confidence"
    picture = tmp_path / "picture.png"
    Image.fromarray(np.full((8, 8), 128, np.uint8)).save(picture)
    assert "picture.png" in workspace.stage(f"predict --detector data/detector {picture}").stdout
    states = [load_file(tmp_path / f"data/models/{run}/0/model.safetensors") for run in ("branch", "branch-oe", "branch-control")]
    assert len({state["confidence.bias"].item() for state in states}) == 3, "the branch learns in every one of them"

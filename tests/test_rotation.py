"""RotPred: a branch that tells an image's quarter turns; its objective, its score, where it is refused, and a detector of it."""

import json
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import PLAIN, Workspace, refusal
from PIL import Image
from safetensors.torch import load_file, save_file

from ood import nets
from ood.config.evaluation import Odin
from ood.config.nets import Net
from ood.detection.from_images import FROM_IMAGES, from_images
from ood.detection.rotation import rotation
from ood.nets import weights
from ood.training.objectives import RotationPrediction


def drawn(count: int = 6, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, classes, generator=generator, dtype=torch.float64)
    return logits, torch.arange(count) % classes, torch.randn(4 * count, 4, generator=generator, dtype=torch.float64)


def test_the_loss_is_that_of_the_class_and_of_the_turn():
    logits, labels, turned = drawn()
    turns = torch.tensor([0] * 6 + [1] * 6 + [2] * 6 + [3] * 6)
    loss, terms = RotationPrediction(0.5)(logits, labels, None, turned=turned)
    assert loss.item() == pytest.approx((F.cross_entropy(logits, labels) + 0.5 * F.cross_entropy(turned, turns)).item())
    assert terms["loss"] == loss
    assert terms["rotation"].item() == pytest.approx(F.cross_entropy(turned, turns).item())
    assert terms["ce"].item() == pytest.approx(F.cross_entropy(logits, labels).item())


def test_the_score_is_openoods():
    """Its confidence is KL(uniform || p) less the mean KL(one-hot turn || q), in bits; ours is minus that, in nats."""
    logits, _, turned = drawn()
    p, q, uniform = logits.softmax(1), turned.softmax(1), torch.full((5,), 0.2, dtype=torch.float64)
    divergence = (uniform * (uniform / p).log2()).sum(1)
    for image in range(6):
        errors = [-q[turn * 6 + image, turn].log2() for turn in range(4)]
        wanted = divergence[image] - sum(errors) / 4
        assert rotation(logits, turned)[image].item() == pytest.approx(-wanted.item() * math.log(2))


def test_the_network_sees_every_quarter_turn():
    torch.manual_seed(0)
    net = nets.build("wrn_10_1", num_classes=4, size=8, turns=True).eval()
    images = torch.rand(3, 3, 8, 8)
    with torch.no_grad():
        logits, turned = net.with_turns(images)
        assert torch.allclose(logits, net(images), atol=1e-6)
        for turn in range(4):
            again = net.with_turns(torch.rot90(images, turn, (2, 3)))[1]
            assert torch.allclose(turned[turn * 3 : turn * 3 + 3], again[:3], atol=1e-5)
        assert not torch.allclose(turned[:3], turned[3:6], atol=1e-4)
    assert from_images(None, turns=False) == {}
    assert set(from_images(Odin(), turns=True)) == FROM_IMAGES
    found = from_images(None, turns=True)["rotation"](net, images)
    assert torch.allclose(found, rotation(logits.double(), turned.double()))


OUTLIERS = {"outliers": "prepared/auxiliary"}
SETTINGS = {
    "seeds": [0],
    "pretrain.runs": {"ce": {}, "rotation": {"rotation": 1.0}},
    "um.runs": {},
    "umap.runs": {},
    "trace.runs": {},
    "mask.runs": {},
    "epochs": {},
    "diffusion.enabled": False,
    "embed.runs": {},
    "synthesize.runs": {},
    "oe.runs": {},
    "models": {"ce": "msp", "rotation": "rotation"},
    "report.pairs": {"rotation": "ce"},
    "detector.model": "rotation",
    "detector.score": "rotation",
}


def test_a_given_backbone_leaves_the_branch_as_it_is(tmp_path):
    plain, net = (nets.build("wrn_10_1", num_classes=4, size=8, turns=True) for _ in range(2))
    save_file(plain.state_dict(), tmp_path / "plain.safetensors")
    before = net.rotation.weight.clone()
    weights.fill(net, Net(name="wrn_10_1"), str(tmp_path / "plain.safetensors"), whole=False, classes=list("abcd"))
    assert torch.equal(net.rotation.weight, before)
    ours, theirs = net.backbone.state_dict(), plain.backbone.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pretrain.runs.rotation.tau": 1.0}, "rotation has an objective and a branch of its own"),
        ({"pretrain.runs.rotation.confidence": 0.3}, "rotation has an objective and a branch of its own"),
        ({"pretrain.runs.rotation.freeze": "backbone"}, "rotation.rotation: freeze: backbone keeps features"),
        ({"oe.runs.x": PLAIN | OUTLIERS | {"init": "rotation"}}, "x.init: 'rotation' has a rotation branch, which pretraining alone"),
        ({"um.runs.x": PLAIN | {"init": "rotation"}}, "um.runs.x.init: 'rotation' has a rotation branch"),
        ({"models.ce": "rotation"}, "models.ce: its own score is rotation, but its network has no such branch"),
        ({"detector.model": "ce"}, "detector.score: rotation, but 'ce' has no such branch"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, changes, words):
    assert re.search(words, refusal(tmp_path, SETTINGS, changes))


@pytest.mark.slow
def test_a_branch_from_training_to_a_detector(tmp_path):
    """Trained, scored beside a plain net and by its other scores, calibrated, exported, asked."""
    workspace = Workspace(tmp_path, SETTINGS)
    models = ("pretrain ce", "pretrain rotation", "features ce", "features rotation")
    for stage in ("prepare", *models, "evaluate", "calibrate", "export", "report"):
        workspace.stage(stage)
    assert "rotation" in (tmp_path / "metrics/training/rotation.csv").read_text().splitlines()[0].split(",")
    seen = load_file(tmp_path / "data/features/rotation/0.safetensors")
    assert {key.split(":")[0] for key in seen if key.endswith(":rotation")} >= {"id/val", "id/test", "near/digits-8-9"}
    assert "id/train:rotation" not in seen
    rows = [line.split(",")[:2] for line in (tmp_path / "metrics/scores.csv").read_text().splitlines()]
    assert {model for model, score in rows if score == "rotation"} == {"rotation"}
    assert {score for model, score in rows if model == "rotation"} >= {"msp", "odin", "knn"}
    assert "rotation vs msp" in (tmp_path / "metrics/report.md").read_text()
    assert json.loads((tmp_path / "data/detector/config.json").read_text())["score"] == "rotation"
    picture = tmp_path / "picture.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(picture)
    assert "nearest class" in workspace.stage(f"predict --detector data/detector {picture}", check=False).stdout
    refused = workspace.stage("export --onnx graph.onnx", check=False)
    assert "rotation needs more of the network than one pass" in refused.stderr

    workspace.set({"detector.score": "msp"})  # the branch is then no part of what is handed on
    workspace.stage("calibrate")
    workspace.stage("export")
    assert not [name for name in load_file(tmp_path / "data/detector/network-0.safetensors") if name.startswith("rotation")]

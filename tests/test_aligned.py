"""DREAM-OOD's encoder as a classifier: the same cosines, a model like any other, and what is refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Workspace, refusal
from safetensors.torch import load_file

from ood import nets
from ood.config.dream import Prompts
from ood.config.evaluation import Scores
from ood.data import packed
from ood.detection import detectors
from ood.detection.scores import Head, msp
from ood.dream import alignment
from ood.dream.words import other_words
from ood.nets import store, worded


def encoder(folder: Path, width: int = 6, classes: int = 3) -> alignment.AlignedEncoder:
    """A small one, written where `align` writes its own."""
    torch.manual_seed(0)
    spec = store.Spec({"name": "wrn_10_1"}, [str(i) for i in range(width)], 8, [0.5] * 3, [0.5] * 3)
    model = alignment.AlignedEncoder(spec.build(), torch.randn(classes, width), 0.1)
    report = [{"class": str(i)} for i in range(classes)]
    folder.mkdir(parents=True)
    alignment.save(folder, model, spec, torch.zeros(1, width), torch.zeros(1, dtype=torch.int64), model.anchors, report)
    return model.eval()


def test_its_logits_are_the_cosines_over_the_temperature_and_its_score_is_mcms(tmp_path):
    model = encoder(tmp_path / "align")
    states, spec = alignment.as_classifier(["a", "b", "c"], folder=tmp_path / "align")
    store.save(tmp_path / "model", states, spec)
    net, again = store.load(tmp_path / "model")
    net.eval()
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        cosines = F.cosine_similarity(model.encoder(images)[:, None], model.anchors[None], dim=2)
        assert torch.allclose(net(images), cosines / 0.1, atol=1e-5)
        assert torch.allclose(net.features(images), model.encoder(images), atol=1e-6)
        assert torch.allclose(msp(net(images)), -(cosines / 0.1).softmax(1).amax(1), atol=1e-6)
    assert (again.classes, again.projection, again.normalize, again.trainings) == (["a", "b", "c"], 6, True, 1)


def test_neglabel_is_the_share_of_class_words_under_one_softmax(tmp_path):
    """-log-odds of the paper's S, by way of files and of a detector's own copy."""
    model, words = encoder(tmp_path / "align"), torch.randn(7, 6, generator=torch.Generator().manual_seed(2))
    states, spec = alignment.as_classifier(["a", "b", "c"], words, tmp_path / "align")
    store.save(tmp_path / "model", states, spec)
    net, again = store.load(tmp_path / "model")
    assert again.negatives == 7
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        raw, logits = net.features(images), net(images)
        cosines = F.cosine_similarity(model.encoder(images)[:, None], torch.cat([model.anchors, words])[None], dim=2)
    share = (cosines.double() / 0.1).softmax(1)[:, :3].sum(1)
    head = Head(net.fc.weight.detach(), net.fc.bias.detach(), net.normalize, negatives=net.negatives)
    outputs = detectors.Outputs.of(head, logits, raw)
    assert "neglabel" in detectors.wanted(Scores(), head=head)
    assert "neglabel" not in detectors.wanted(Scores())
    fitted = detectors.fit(["neglabel"], head, outputs, torch.arange(5) % 3, logits, Scores())["neglabel"]
    assert torch.allclose(fitted(outputs), ((1 - share) / share).log(), atol=1e-4)
    bare = Head(head.weight, head.bias, head.normalize)
    assert torch.equal(detectors.restored("neglabel", bare, Scores(), fitted.state)(outputs), fitted(outputs))
    with pytest.raises(ValueError, match="this network has none"):
        detectors.fit(["neglabel"], bare, outputs, torch.arange(5) % 3, logits, Scores())


def test_other_words_are_those_of_the_world_without_the_classes(monkeypatch):
    said = {"world/a": ["Omega", "omega", "one", "pound"], "world/b": ["pound", "SEVEN", "eight", "7"]}
    monkeypatch.setattr(packed, "names", lambda role, root: list(said))
    monkeypatch.setattr(packed, "words", lambda name, root: said[name])
    monkeypatch.setattr(packed, "info", lambda root: SimpleNamespace(classes=["7", "1", "8"]))
    prompts = Prompts(template="a {name}", names={"7": "seven", "1": "number one"}, words={"1": "one"})
    assert other_words(prompts) == ["omega", "pound", "eight"]


def test_words_least_like_a_class_are_kept():
    anchors = torch.eye(4)[:2]
    words = torch.tensor([[1.0, 0.1, 0, 0], [0, 0, 1, 0], [0.5, 0, 1, 0], [0, 0, 0, -2.0]])
    assert torch.equal(worded.least_alike(words, anchors, 0.5), words[[1, 3]])
    assert torch.equal(worded.least_alike(words, anchors, 1.0), words)
    assert len(worded.least_alike(words, anchors, 0.01)) == 1
    one, many = torch.tensor([1.0, 0, 0.8, 0]), torch.tensor([0.6, 0.6, 0, 0])  # very like one class of two, and somewhat like both
    assert torch.equal(worded.least_alike(torch.stack([one, many]), anchors, 0.5), many[None]), "the likest class counts"


def test_a_projection_is_a_linear_layer_before_the_head():
    net = nets.build("wrn_10_1", num_classes=3, size=8, projection=5)
    assert net.fc.in_features == 5
    assert net.features(torch.rand(2, 3, 8, 8)).shape == (2, 5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": {"ce": "msp", "aligned": "msp"}, "diffusion.enabled": False}, "models.aligned: needs DREAM-OOD, but"),
        ({"models": {"ce": "msp", "aligned": "confidence"}}, "models.aligned: its own score is confidence"),
        ({"models": {"ce": "neglabel"}}, "models.ce: its own score is neglabel, but its network has no words that are no class"),
        ({"models": {"ce": "msp", "aligned": "neglabel"}, "aligned.negatives": None}, "models.aligned: its own score is neglabel, but"),
        ({"detector.model": "ce", "detector.score": "neglabel"}, "detector.score: neglabel, but 'ce' has no words"),
        ({"models": {"ce": "msp"}, "detector.score": "neglabel"}, "detector.score: neglabel, but every model has no words"),
        ({"aligned.negatives": []}, "aligned.negatives"),
        ({"aligned.negatives": ["cat", "Cat"]}, "stands twice"),
        ({"aligned.negatives": ["cat", "seven"]}, "aligned.negatives: 'seven' is an ID class"),
        ({"aligned.share": 0.0}, "aligned.share"),
        ({"pretrain.runs.aligned": {}}, "'aligned' can't be a run's name"),
    ],
)
def test_what_it_can_not_be_is_said(tmp_path, changes, words):
    assert words in refusal(tmp_path, {}, changes)


def test_other_words_do_not_go_with_anchors_from_elsewhere(tmp_path):
    np.save(tmp_path / "anchors.npy", np.eye(8))
    changes = {"align.anchors": "anchors.npy", "models": {"ce": "msp", "aligned": "neglabel"}}
    assert "models.aligned: its own score is neglabel, but" in refusal(tmp_path, {}, changes)


def test_every_seed_has_the_same_one_and_without_dreams_there_is_none(tmp_path):
    workspace = Workspace(tmp_path, {"seeds": [0, 3]})
    encoder(tmp_path / "data/align")
    (tmp_path / "data/prepared/id").mkdir(parents=True)
    (tmp_path / "data/prepared/world").mkdir()
    info = {"classes": ["a", "b", "c"], "side": 8, "mean": [0.5] * 3, "std": [0.5] * 3}
    (tmp_path / "data/prepared/id/info.json").write_text(json.dumps(info))
    workspace.stage("aligned")
    found = [load_file(tmp_path / f"data/models/aligned/{seed}/model.safetensors") for seed in (0, 3)]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    Workspace(tmp_path, {"diffusion.enabled": False}).stage("aligned")
    assert not list((tmp_path / "data/models/aligned").glob("*/model.safetensors"))

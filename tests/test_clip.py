"""CLIP: its image tower is a network like any other, its words are a head, and the scores on them are MCM and NegLabel."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Workspace
from safetensors.torch import load_file
from transformers import BertConfig, CLIPConfig, CLIPImageProcessor, CLIPModel

from ood import Detector
from ood.config.nets import Net
from ood.config.training import PretrainRun
from ood.data.packed import Info
from ood.deploy.explain import last_maps
from ood.detection.scores import Head, NegLabel
from ood.dream.tokenizer import learn
from ood.errors import InputError
from ood.nets import build, clip, hub, store, weights, worded

CLASSES = ["zero", "one", "two"]
TEMPLATE = "a photo of a {}"
OTHERS = ["moon", "tree", "house", "one more"]
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small CLIP's, for images of eight pixels; don't write into it."""
    path = tmp_path_factory.mktemp("clip") / "clip"
    tokenizer = learn([TEMPLATE.format(word) for word in [*CLASSES, *OTHERS, *map(str, range(10))]])
    torch.manual_seed(0)
    layers = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    marks = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = layers | marks | {"vocab_size": len(tokenizer), "max_position_embeddings": 16}
    net = CLIPModel(CLIPConfig(text_config=text, vision_config=layers | {"image_size": 8, "patch_size": 4}, projection_dim=12))
    for parameter in net.parameters():  # its library's first weights are so small that all images look alike
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    net.save_pretrained(path)
    tokenizer.save_pretrained(path)
    sides = {"size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}}
    CLIPImageProcessor(image_mean=MEAN, image_std=STD, **sides).save_pretrained(path)
    return path


def net_of(folder: Path) -> Net:
    return Net(name=f"clip/{folder}", weights="published")


def made(folder: Path, **words: object) -> tuple[torch.nn.Module, store.Spec]:
    """As the stage makes it."""
    setting, net = PretrainRun(epochs=0, words=words), net_of(folder)
    said = worded.read(net, setting.words, CLASSES)
    spec = store.spec_for(net, Info(CLASSES, 8, MEAN, STD), True, negatives=0 if said.negatives is None else len(said.negatives))
    classifier = spec.build(blank=True)
    weights.fill(classifier, net, "published", whole=False, classes=CLASSES)
    worded.put(classifier, *said)
    return classifier.eval(), spec


def theirs(folder: Path, sentences: list[str], images: torch.Tensor) -> torch.Tensor:
    """What CLIP itself says of images and sentences, padded together: cosines over its temperature."""
    from transformers import AutoTokenizer

    given = AutoTokenizer.from_pretrained(folder)(sentences, padding=True, return_tensors="pt")
    pixels = (images - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    with torch.no_grad():
        return CLIPModel.from_pretrained(folder).eval()(**given, pixel_values=pixels).logits_per_image


def test_logits_are_clips_own(folder):
    net, _ = made(folder)
    images = torch.rand(5, 3, 8, 8)
    with torch.no_grad():
        logits = net(images)
    assert torch.allclose(logits, theirs(folder, [TEMPLATE.format(name) for name in CLASSES], images), atol=1e-4)
    assert logits.std() > 0.5, "images differ"


def test_template_names_and_temperature_are_those_that_are_asked_for(folder):
    net, _ = made(folder, template="{name}", names={"zero": "moon"}, temperature=1.0)
    images = torch.rand(5, 3, 8, 8)
    scale = float(CLIPModel.from_pretrained(folder).logit_scale.detach().exp())
    with torch.no_grad():
        assert torch.allclose(net(images) * scale, theirs(folder, ["moon", "one", "two"], images), atol=1e-4)
        assert net(images).abs().max() <= 1, "cosines, as MCM's authors take them"


def test_neglabel_weighs_the_words_that_are_no_class(folder):
    net, spec = made(folder, negatives=OTHERS)
    images = torch.rand(5, 3, 8, 8)
    all_words = [TEMPLATE.format(word) for word in [*CLASSES, *OTHERS]]
    head = Head(net.fc.weight.detach(), net.fc.bias.detach(), True, None, net.negatives)
    with torch.no_grad():
        share = theirs(folder, all_words, images).double().softmax(1)[:, : len(CLASSES)].sum(1)
        assert torch.allclose(
            NegLabel(head).fit(head).score(F.normalize(net.features(images), dim=1)), torch.log((1 - share) / share), atol=1e-3
        )
    assert spec.negatives == len(OTHERS)


def test_the_words_least_like_a_class_stay(folder):
    net, spec = made(folder, negatives=OTHERS, share=0.5)
    said = clip.sayings(str(folder), [TEMPLATE.format(word) for word in [*CLASSES, *OTHERS]]).embeddings
    alike = (F.normalize(said[3:], dim=1) @ F.normalize(said[:3], dim=1).T).quantile(0.95, dim=1)
    stays = sorted(alike.argsort()[:2].tolist())
    scale = float(CLIPModel.from_pretrained(folder).logit_scale.detach().exp())
    assert spec.negatives == 2
    assert torch.allclose(net.negatives, F.normalize(said[3:][stays], dim=1) * scale, atol=1e-4)


def test_a_long_sentence_is_cut_where_clip_reads_no_further(folder):
    whole, cut = clip.sayings(str(folder), ["moon " * 40, "moon " * 14]).embeddings
    assert torch.allclose(whole, cut, atol=1e-5), "14 words and two marks are its sixteen"


def test_a_model_needs_its_folder_no_more(folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "clip")
    net, spec = made(moved, negatives=OTHERS)
    store.save(tmp_path / "model", {"model": net.state_dict()}, spec)
    shutil.rmtree(moved)
    again, _ = store.load(tmp_path / "model")
    images = torch.rand(3, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(again(images), net(images))


def test_what_does_not_fit_is_said(folder, tmp_path):
    with pytest.raises(InputError, match="takes images of 8 pixels; these have 16"):
        build(net_of(folder), num_classes=3, size=16)
    with pytest.raises(InputError, match=r"has no config\.json"):
        build(net_of(tmp_path), num_classes=3, size=8)
    partial = shutil.copytree(folder, tmp_path / "partial")
    (partial / "model.safetensors").unlink()
    with pytest.raises(InputError, match="can't be had"):
        clip.published(str(partial))
    for wrong in ({"normalize": True}, {"tau": 0.1}, {"confidence": 0.3}, {"rotation": 1.0}, {"weights": "x"}):
        with pytest.raises(ValueError, match="words is a head of its own"):
            PretrainRun(words={}, **wrong)
    with pytest.raises(ValueError, match=r"must hold \{name\} exactly once"):
        PretrainRun(words={"template": "a photo"})
    with pytest.raises(ValueError, match="stands twice"):
        PretrainRun(epochs=0, words={"negatives": ["moon", "Moon"]})
    with pytest.raises(ValueError, match="training moves classes away"):
        PretrainRun(words={"negatives": ["moon"]})


def without(folder: Path, target: Path, *names: str) -> Path:
    own = shutil.copytree(folder, target)
    for name in names:
        (own / name).unlink(missing_ok=True)
    return own


def test_words_that_tell_nothing_are_refused(folder, tmp_path):
    blind = without(folder, tmp_path / "blind", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")
    for place, words in (
        (blind, {}),
        (folder, {"names": {"zero": "one"}}),
        (folder, {"negatives": ["zero"]}),
        (folder, {"template": f"{'moon ' * 20}{{name}}"}),
    ):
        with pytest.raises(InputError, match=r"makes the same of|can't be had"):
            made(place, **words)


def test_what_a_folder_does_not_say_is_not_compared(folder, tmp_path):
    silent = without(folder, tmp_path / "silent", "preprocessor_config.json")
    assert clip.proposed(str(silent)) is None
    assert clip.proposed(str(folder)).mean == pytest.approx(MEAN)
    (silent / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 8, "width": 8}, "image_mean": MEAN, "image_std": STD}))
    assert clip.proposed(str(silent)).short == 8


def test_only_a_clip_is_one_and_a_handed_on_one_is_bounded(folder, tmp_path):
    own = clip.described(str(folder))
    for changes, said in (
        ({"hidden_act": "nothing"}, "can't be built"),
        ({"num_hidden_layers": 10**6}, "more than any network has"),
        ({"model_type": "bert"}, "of the kind bert"),
    ):
        with pytest.raises(InputError, match=said):
            clip.backbone("clip", size=8, config=own | changes)
    assert not any(key.startswith(("return_", "output_")) for key in own)
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(InputError, match="is no CLIP but of the kind bert"):
        clip.described(str(tmp_path / "bert"))
    (tmp_path / "file").write_text("x")
    for name in (str(tmp_path / "file"), "./nowhere", "/nowhere"):
        with pytest.raises(InputError, match="no such folder"):
            clip.described(name)


def test_heat_maps_of_a_clip_are_not_those_of_its_first_layer(folder):
    net, _ = made(folder)
    assert last_maps(net, torch.rand(1, 3, 8, 8)) is None


def test_a_hubs_commit_is_asked_for(monkeypatch):
    asked: dict[str, object] = {}

    def get(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return "had"

    assert hub.had("net.name", "some/clip@abc123", get) == "had"
    assert (asked["name"], asked["revision"], asked["local_files_only"]) == ("some/clip", "abc123", False)


CLIP = {
    "net": {"name": "clip/clip", "weights": "published"},
    "data.chain.size": 8,
    "data.chain.upsize": None,
    "data.chain.mean": MEAN,
    "data.chain.std": STD,
    "diffusion.enabled": False,
    "pretrain.runs": {
        "clip": {"epochs": 0, "words": {"negatives": OTHERS}},
        "bare": {"epochs": 0, "words": {}},
        "probe": {"epochs": 2, "freeze": "backbone", "lr": 0.1},
    },
    "epochs": {},
    "trace.runs": {},
    "mask.runs": {"um": {"init": "bare"}},
    "um.runs": {"um": {"init": "bare", "constraint": "um"}},
    "umap.runs": {"umap": {"init": "bare", "constraint": "um"}},
    "embed.runs": {},
    "synthesize.runs": {},
    "oe.runs": {
        "oe": {"init": "probe", "constraint": "none", "outliers": "prepared/auxiliary", "objective": "uniform", "freeze": "backbone"}
    },
    "models": {"clip": "neglabel", "probe": "msp", "um": "energy", "umap": "energy", "oe": "msp"},
    "features.odin": None,
    "detector.model": "clip",
    "detector.score": "neglabel",
    "report.pairs": {},
}


def worded_as(**words: object) -> dict:
    return {"pretrain.runs": CLIP["pretrain.runs"] | {"clip": {"epochs": 0, "words": {"negatives": OTHERS} | words}}}


@pytest.mark.slow
def test_every_stage_runs_on_a_clip(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "clip")
    workspace = Workspace(tmp_path, CLIP)
    for command in (
        *("check", "prepare", "pretrain clip", "pretrain bare", "pretrain probe", "mask um", "um um", "umap umap", "oe oe"),
        *("diffusion", "align", "aligned", "proofs"),
        *(f"features {model}" for model in CLIP["models"]),
        *("evaluate", "calibrate", "export", "report"),
    ):
        workspace.stage(command)
    rows = (tmp_path / "metrics/scores.csv").read_text().splitlines()
    assert any(row.startswith("clip,") and "neglabel" in row for row in rows)
    assert not any(row.startswith("probe,") and "neglabel" in row for row in rows)
    assert "a head of class words" in (tmp_path / "metrics/report.md").read_text() + (tmp_path / "metrics/report.html").read_text()
    shutil.rmtree(tmp_path / "clip")
    detector = Detector.load(tmp_path / "data/detector")
    images = np.load(tmp_path / "data/prepared/id/test.npy")
    found = detector.predict(list(images[:4]))
    assert [verdict.error for verdict in found] == [None] * 4
    assert json.loads((tmp_path / "data/detector/config.json").read_text())["networks"][0]["config"]["model_type"] == "clip_vision_model"
    state = load_file(tmp_path / "data/detector/network-0.safetensors")
    assert not any("text_model" in name for name in state)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"pretrain.runs": CLIP["pretrain.runs"] | {"clip": {"epochs": 0, "words": {}}}},
            "its own score is neglabel, but its network has no words",
        ),
        ({"net": {"name": "wrn_10_1"}}, "pretrain.runs.clip.words: a CLIP with its weights reads them, no wrn_10_1"),
        ({"net": {"name": "clip/clip"}}, "pretrain.runs.clip.words: a CLIP with its weights reads them"),
        ({"um.runs": {"um": {"init": "clip", "constraint": "none"}}, "umap.runs": {}}, "um.runs.um.init: clip has words that are no class"),
        ({"detector.ensemble": True}, "detector.ensemble: 'clip' is one network, under every seed"),
        (worded_as(names={"nobody": "x"}), "words.names.nobody: no such ID class"),
        (worded_as(names={"0": "1"}), "two ID classes are called '1'"),
        (worded_as(negatives=["3"]), "words.negatives: '3' is an ID class"),
        (
            worded_as(template="moon moon moon moon moon moon moon moon moon moon moon moon moon moon moon moon moon {name}"),
            "makes the same of",
        ),
        ({"data.chain.mean": [0.5] * 3}, "has learned with mean [0.48, 0.46, 0.41]"),
        ({"data.chain.size": 16}, "clip/clip takes images of 8 pixels; these have 16"),
        ({"net": {"name": "clip/empty", "weights": "published"}}, "empty has no config.json"),
        ({"models": {"clip": "neglabel", "oe": "neglabel"}}, "models.oe: its own score is neglabel, but its network has no words"),
    ],
)
def test_bad_input_is_refused(folder, tmp_path, changes, said):
    shutil.copytree(folder, tmp_path / "clip")
    (tmp_path / "empty").mkdir()
    result = Workspace(tmp_path, CLIP | changes).stage("check", check=False)
    assert result.returncode
    assert said in result.stderr
    assert "Traceback" not in result.stderr

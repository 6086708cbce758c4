"""Parameters: what is refused, and whether the message names the key and the remedy."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import PLAIN, ROOT, Workspace

from ood import nets
from ood.config import Params
from ood.config.data import Data
from ood.config.evaluation import Evaluate
from ood.config.methods import UM
from ood.config.nets import Net
from ood.config.training import Common
from ood.config.whole import check, check_against
from ood.data import catalog
from ood.data.sources import digits
from ood.errors import InputError


def problem(workspace: Workspace) -> str:
    """What `check` says about a workspace's params.yaml."""
    try:
        params = Params(workspace.path / "params.yaml")
        check(params)
        facts = catalog.check(params[Data])
        check_against(params, facts.classes, facts.training)
    except InputError as error:
        return str(error)
    raise AssertionError("check found nothing wrong")


def test_the_shipped_parameters_pass():
    check(Params(ROOT / "params.yaml"))


CONFUSED = {"share": 0.1, "kind": "confusable"}
BAD = [
    ({"um.treshold": 0.3}, ["um.treshold", "unknown key", "threshold"]),
    ({"oe.runs.oe.lamda": 1}, ["oe.runs.oe.lamda", "unknown key"]),
    ({"data.far.gaussian.sigma": 1}, ["data.far.gaussian.sigma", "unknown key"]),
    ({"umm": {}}, ["umm", "unknown section"]),
    ({"um.threshold": -1}, ["um.threshold", "at least 0 ", "-1"]),
    ({"um.threshold": "low"}, ["um.threshold", "number", "'low'"]),
    ({"mask.keep": 1.5}, ["mask.keep", "at most 1 "]),
    ({"seeds": [0, 0]}, ["seeds", "twice"]),
    ({"seeds": []}, ["seeds", "at least 1"]),
    ({"net.name": "resnet99"}, ["net.name", "wrn_<depth>_<width>", "'resnet99'"]),
    ({"net.name": "wrn_12_1"}, ["net.name", "10, 16, 22"]),
    ({"net.name": "resnet_18_1"}, ["net.name", "resnet_<depth>_<width>", "8, 14, 20"]),
    (
        {"net": {"name": "resnet_8_1", "stem": "imagenet"}},
        ["net", "resnet_8_1 has no option stem", "it knows affine, shortcut, slope, spectral"],
    ),
    ({"net.name": "vgg16"}, ["net.name", "vgg16 takes images of a multiple of 32", "these have 8"]),
    ({"net.spectral": 3.0}, ["net", "wrn_10_1 has no option spectral", "it knows affine, dropout"]),
    ({"pretrain.runs.l2.net": {"name": "allconv"}}, ["pretrain.runs.l2.net.name", "allconv takes"]),
    ({"pretrain.runs.l2.net": {"name": "resnet19"}}, ["pretrain.runs.l2.net.name", "no such network"]),
    ({"pretrain.training.milestones": [4]}, ["pretrain.training", "milestones belong to schedule 'steps'"]),
    ({"pretrain.runs.l2.schedule": "steps"}, ["pretrain.runs.l2", "milestones belong to schedule 'steps'"]),
    ({"pretrain.runs.l2.tau": 0.1}, ["pretrain.runs.l2", "two methods"]),
    ({"diffusion.enabled": False}, ["embed.runs", "synthesize.runs", "oe.runs.dream", "needs DREAM-OOD"]),
    ({"augment.crop": [0.0, 1.0]}, ["augment.crop", "greater than 0"]),
    ({"models.ce": "odin", "features.odin": None}, ["models.ce", "features.odin"]),
    ({"data.shifted": {"a": {"source": "folder", "path": "nowhere"}}}, ["data.shifted.a.path", "nowhere", "no such folder"]),
    ({"um.training.strong": {"label_smoothing": 0.1}}, ["um, um-l2: b is a loss on hard labels"]),
    ({"oe.runs.oe-um.strong": {"mixup": 0.8}}, ["oe-um: b is a loss on hard labels"]),
    ({"pretrain.runs.ce.strong": {"mix_until": 5}}, ["pretrain.runs.ce", "neither is on"]),
    ({"pretrain.training.strong": {"mixup": 0.8, "smoothing": 0.1}}, ["pretrain.training.strong.smoothing", "unknown key"]),
    ({"pretrain.runs.CE_2": {}}, ["pretrain.runs.CE_2", "lower-case letters, digits and hyphens"]),
    ({"pretrain.runs.ce": None}, ["pretrain.runs.ce", "or {}"]),
    ({"data.far.x": {"kind": "gaussian"}}, ["data.far.x", "nothing of its source"]),
    ({"data.far.x": {"source": "web"}}, ["data.far.x", "unknown source 'web'", "'folder'"]),
    ({"data.far": {}}, ["data.far", "Give at least 1"]),
    (
        {"data.far.x": {"source": "torchvision", "name": "SVHN", "split": "test", "root": "none", "download": False}},
        ["data.far.x.root", "none", "set download to true"],
    ),
    ({"align.anchors": "token_embed.npy"}, ["align.anchors", "token_embed.npy", "no such file"]),
    ({"augment.crop": [1.0, 0.2]}, ["augment.crop", "swap them"]),
    ({"scores.vra_low": 0.9, "scores.vra_high": 0.9}, ["scores", "vra_low (0.9) must be below vra_high (0.9)"]),
    ({"evaluate.protocols": ["oe", "oe"]}, ["evaluate.protocols", "'oe' stands twice"]),
    ({"evaluate.protocols": ["imagenet"]}, ["evaluate.protocols", "'oe', 'oe-text', 'um', 'dream' or 'openood'"]),
    ({"data.chain.short": 4}, ["data.chain", "short (4) must be at least size (8)"]),
    ({"data.chain.size": 9}, ["data.chain", "multiple of 4", "; net.name: wrn_10_1"]),
    ({"data.chain.size": 9}, ["pretrain.runs.resnet.net.name, pretrain.runs.l2.net.name: resnet_8_1 takes"]),
    ({"data.id.split.train": 0.9}, ["data.id.split", "must be 1"]),
    ({"data.id.images": {"source": "folder", "path": "images/none"}}, ["data.id.images.path", "images/none", "no such folder"]),
    ({"data.far.mine": {"source": "folder", "path": "nowhere"}}, ["data.far.mine.path", "nowhere", "no such folder"]),
    ({"data.near.letters.characters": "AO"}, ["data.near.letters", "'O'", "reads as a digit"]),
    ({"data.near.letters.fonts": ["Arial"]}, ["data.near.letters.fonts", "Arial"]),
    ({"data.far.flower.image": "moon.jpg"}, ["data.far.flower.image", "'moon.jpg'"]),
    ({"data.far.x": {"source": "corruption", "kind": "jigsaw"}}, ["spoilt ID images", "validation", "auxiliary"]),
    ({"data.auxiliary.x": {"source": "corruption", "kind": "jigsaw"}}, ["auxiliary.x and validation.jigsaw", "must not choose"]),
    ({"data.far.blobs.blur": None}, ["data.far.blobs", "blur"]),
    ({"mask.runs.um.init": "best"}, ["mask.runs.um.init", "'best'", "Known: branch, ce, ce-2, control"]),
    ({"mask.runs.x": {"init": "scratch"}}, ["mask.runs.x.init", "'scratch'", "trained"]),
    ({"mask.runs.none": {"init": "ce"}}, ["mask.runs.none", "there is no constraint", "Rename"]),
    ({"um.runs.um.constraint": "umm"}, ["um.runs.um.constraint", "'umm'", "Known: none, um, um-l2"]),
    ({"um.runs.um-l2.init": "ce"}, ["um.runs.um-l2.constraint", "'um-l2' was estimated on 'l2'", "starts from 'ce'"]),
    ({"um.runs.control.threshold": 0.3}, ["um.runs.control", "constraint is none"]),
    ({"um.runs.control.init": "control"}, ["um.runs.control.init", "control from control", "can't start from itself"]),
    ({"um.runs.um": {"init": "ce"}}, ["um.runs.um.constraint", "missing"]),
    ({"epochs.ce-2.run": "cee"}, ["epochs.ce-2.run", "'cee'", "Known: branch, ce, l2"]),
    ({"epochs.x": {"run": "ce", "epoch": 9}}, ["epochs.x.epoch", "ce keeps no epoch 9", "It keeps: 1, 2, 3"]),
    ({"epochs.x": {"run": "ce"}}, ["epochs.x", "give epoch, a number, or by", "one of the two"]),
    ({"epochs.x": {"run": "ce", "epoch": 2, "by": "energy"}}, ["epochs.x", "one of the two"]),
    ({"epochs.x": {"run": "ce", "by": "knn"}}, ["epochs.x.by", "accuracy"]),
    ({"pretrain.runs.given": {"epochs": 0}, "epochs.x": {"run": "given", "by": "msp"}}, ["epochs.x.by", "keeps no epochs", "more epochs"]),
    ({"pretrain.runs.short": {"epochs": 1}, "epochs.x": {"run": "short", "by": "msp"}}, ["epochs.x.by", "Take a run of more epochs"]),
    ({"oe.runs.oe.init": "cee"}, ["oe.runs.oe.init", "'cee'", "Known:"]),
    ({"oe.runs.oe-scratch.constraint": "um"}, ["oe.runs.oe-scratch.constraint", "estimated on 'ce'", "Add a mask run with init: scratch"]),
    ({"oe.runs.l2": PLAIN | {"outliers": "prepared/auxiliary"}}, ["'l2' is taken twice"]),
    ({"oe.runs.no-outliers.weight": 1.0}, ["oe.runs.no-outliers", "weight has no meaning"]),
    ({"oe.runs.energy.m_in": 5.0}, ["oe.runs.energy", "below m_out"]),
    ({"oe.runs.oe.m_in": -5.0}, ["oe.runs.oe", "belong to objective 'energy'"]),
    ({"pretrain.keep_epochs": -1}, ["pretrain.keep_epochs", "at least 0 "]),
    ({"um.threshold": True}, ["um.threshold", "number", "True"]),
    ({"um.training.epochs": True}, ["um.training.epochs", "whole number"]),
    ({"seeds": [True]}, ["seeds", "whole number"]),
    ({"um.training.lr": float("inf")}, ["um.training.lr", "finite"]),
    ({"data.id.images.classes": [3]}, ["data.id", "at least two"]),
    ({"data.id.images.classes": [3, 3]}, ["data.id.images.classes", "twice"]),
    ({"data.near.digits-8-9.classes": [7, 8]}, ["near.digits-8-9", "7 is ID"]),
    ({"data.validation.ghost": {"source": "corruption", "kind": "ghost"}}, ["validation.ghost", "grey"]),
    ({"data.far.c": {"source": "torchvision", "name": "MNIST", "classes": [12]}}, ["data.far.c", "no class 12"]),
    ({"data.near.letters.characters": "A "}, ["data.near.letters", "no ink"]),
    ({"oe.runs.data": PLAIN | {"outliers": "prepared/auxiliary"}}, ["'data'", "Rename"]),
    ({"data.validation.flip-vertical.classes": [12]}, ["validation.flip-vertical", "12 is no ID class"]),
    ({"data.far.flower.image": "china.jpg"}, ["photo china.jpg", "auxiliary.china", "far.flower"]),
    ({"data.auxiliary.eight": {"source": "digits", "classes": [8]}}, ["digit 8", "two roles"]),
    ({"report.pairs.l2": "l2"}, ["report.pairs.l2", "its own control"]),
    ({"pretrain.runs.l2.epochs": 7}, ["report.pairs.l2", "trains differently", "epochs 7 against 3"]),
    ({"report.pairs.l2": "ce"}, ["report.pairs.l2", "ce is no control", "on another net"]),
    ({"pretrain.runs.resnet.strong": {"pixmix": {}}}, ["report.pairs.l2", "resnet is no control", "strong"]),
    (
        {"um.runs.um.strong": {"pixmix": {}}, "mask.masks": 3},
        ["report.pairs.um", "control is no control", "strong"],
    ),
    ({"report.pairs": {"aligned": "ce"}}, ["report.pairs.aligned", "'aligned' is trained as no run is"]),
    ({"detector.model": "aligned", "detector.score": "confidence"}, ["detector.score: confidence", "'aligned' has no such branch"]),
    ({"detector.model": "aligned", "detector.ensemble": True}, ["detector.ensemble: 'aligned' is one network"]),
    ({"oe.runs.poem.freeze": "backbone"}, ["oe.runs.poem.mine", "freeze: backbone keeps them"]),
    ({"oe.runs.doe.freeze": "backbone"}, ["oe.runs.doe.perturb", "freeze: backbone keeps them"]),
    ({"models.magic": "msp"}, ["models.magic", "no such run"]),
    ({"models.ce": "mps"}, ["models.ce", "msp"]),
    ({"trace.runs.scratch": "energy"}, ["trace.runs.scratch"]),
    (
        {
            "pretrain.keep_epochs": 0,
            "trace.runs": {"ce": "energy"},
            "epochs": {},
            "um.runs.middle.init": "ce",
            "mask.runs.um.epochs": None,
            "um.runs.selective.forget.by": "loss",
        },
        ["trace.runs.ce", "keep_epochs"],
    ),
    ({"report.pairs.l2": "nothing"}, ["report.pairs.l2", "'nothing'"]),
    ({"evaluate.roles": ["test"]}, ["evaluate", "'val' must be"]),
    ({"oe.runs.oe": PLAIN}, ["oe.runs.oe.outliers", "missing"]),
    ({"oe.runs.oe.outliers": "dreams"}, ["oe.runs.oe.outliers", "'dreams'"]),
    ({"oe.runs.dream.outliers": "dreamed/nightmares"}, ["oe.runs.dream.outliers", "'nightmares'", "Known: inliers, outliers"]),
    ({"oe.runs.dream.outliers": "dreamed/inliers"}, ["oe.runs.dream", "needs dreamed outliers", "holds inliers"]),
    ({"oe.runs.dream-id.outliers": "dreamed/outliers"}, ["oe.runs.dream-id", "needs dreamed inliers"]),
    ({"oe.runs.dream.per_class": 7}, ["oe.runs.dream.per_class", "paints 6"]),
    ({"oe.runs.dream.cut": None}, ["oe.runs.dream", "need a cut"]),
    ({"oe.runs.dream.phi": None}, ["oe.runs.dream", "phi (affine or mlp)"]),
    ({"oe.runs.oe.cut": 0.5}, ["oe.runs.oe", "not dreamed"]),
    ({"oe.runs.dream-id.constraint": "um"}, ["oe.runs.dream-id", "without a constraint"]),
    ({"embed.runs.outliers.cosine": None}, ["embed.runs.outliers", "cosine belongs to the methods knn, noise"]),
    ({"embed.runs.outliers.cosine": 1.2}, ["embed.runs.outliers.cosine", "at most 0.999999"]),
    ({"embed.runs.outliers.method": "names", "embed.runs.outliers.cosine": None}, ["embed.runs.outliers", "names (at least one)"]),
    ({"embed.runs.inliers.method": "noise"}, ["embed.runs.inliers", "needs method 'knn'"]),
    ({"embed.runs.outliers.boundary": 2000}, ["embed.runs.outliers", "can't exceed features_per_class (1000)"]),
    ({"embed.runs.outliers.keep": 30}, ["embed.runs.outliers", "can't exceed candidates (20)"]),
    ({"judge.run": "scratch"}, ["judge.run", "'scratch'", "Known: branch, ce, l2"]),
    ({"synthesize.runs.outliers.embed": "edges"}, ["synthesize.runs.outliers.embed", "'edges'"]),
    ({"synthesize.runs.align": {"embed": "outliers", "count": 3}}, ["synthesize.runs.align", "Rename"]),
    ({"painting.sampler": "ddim"}, ["painting.sampler", "'dpm' or 'plms'"]),
    ({"prompts.template": "A picture"}, ["prompts.template", "{name} exactly once"]),
    ({"prompts.template": "A {thing} of {name}"}, ["prompts.template", "{name} exactly once"]),
    ({"prompts.names": {"nine": "nine"}}, ["prompts.names.nine", "no such ID class"]),
    ({"prompts.words": {"3": "tree"}}, ["prompts.words.3", "'tree' isn't in the prompt"]),
    ({"diffusion.model": "./no-such-folder"}, ["diffusion.model", "no such folder"]),
    ({"prompts.words": {"3": "hre"}}, ["prompts.words.3", "'hre' isn't in the prompt"]),
    ({"prompts.names": {"0": "zero", "1": "Zero"}}, ["prompts.names", "two ID classes", "'zero'"]),
    ({"prompts": {"template": "a {name}"}}, ["prompts.names", "missing"]),
    ({"prompts.template": "a {name:d}"}, ["prompts.template", "{name} exactly once"]),
    ({"embed.runs.others.names": ["three"]}, ["embed.runs.others.names", "'three' is an ID class"]),
    ({"embed.runs.others.names": ["owl", " "]}, ["embed.runs.others", "empty or stands twice"]),
    ({"oe.runs.no-outliers.outliers": "dreamed/typo"}, ["oe.runs.no-outliers.outliers", "'typo'"]),
    ({"oe.runs.no-outliers.cut": 0.5}, ["oe.runs.no-outliers", "not dreamed"]),
    ({"data.chain.upsize": 32}, ["diffusion.small.size", "draws 16 pixels, but images have 32"]),
    ({"data.world.symbols.characters": "\uf400"}, ["data.world.symbols", "has no"]),
    ({"diffusion.small.size": 12}, ["diffusion.small.size", "multiple of 8"]),
    ({"diffusion.small.unet.channels": [8, 8, 8, 8, 8]}, ["diffusion.small.unet.channels", "at most 4"]),
    ({"diffusion.small.text.heads": 5}, ["diffusion.small.text", "multiple of heads"]),
    ({"diffusion.small.size": 8, "data.chain.upsize": 8, "diffusion.small.unet.channels": [8, 8, 8, 8]}, ["diffusion.small", "halved"]),
    ({"data.world": {}}, ["data.world", "paints only those"]),
    ({"data.world.symbols.characters": "∞O"}, ["data.world.symbols", "'O'", "reads as a digit"]),
    ({"data.world.letters-world.characters": "ΔδΨ"}, ["data.world.letters-world", "'Δ'", "'δ'", "'delta'"]),
    ({"data.world.three": {"source": "digits", "classes": [3]}}, ["world.three", "3 is ID"]),
    ({"data.corrupted.flip": {"source": "corruption", "kind": "flip_vertical"}}, ["data.corrupted.flip.kind", "'flip_vertical'"]),
    ({"data.corrupted.ghost": {"source": "corruption", "kind": "ghost"}}, ["corrupted.ghost", "grey"]),
    ({"runtime.precision": "fp8"}, ["runtime.precision", "'fp8'"]),
    # Accepted, such values failed late, or never ended.
    ({"data.near.letters.count": 10**30}, ["data.near.letters.count", "at most 1,000,000"]),
    ({"data.far.gaussian.count": 1e30}, ["data.far.gaussian.count", "whole number"]),
    ({"data.far.mine": {"source": "folder", "path": "images", "classes": []}}, ["data.far.mine.classes", "at least 1"]),
    ({"data.validation.flip-vertical.classes": []}, ["data.validation.flip-vertical.classes", "at least 1"]),
    ({"data.chain.mean": [1e40, 0.5, 0.5]}, ["data.chain.mean", "at most 1 "]),
    ({"data.chain.std": [1e-320, 0.5, 0.5]}, ["data.chain.std", "at least 0.001"]),
    ({"data.chain.upsize": 10**6}, ["data.chain.upsize", "at most 4,096"]),
    ({"painting.steps": 5000}, ["painting.steps", "at most 1,000"]),
    ({"embed.runs.outliers.cosine": 1e-300}, ["embed.runs.outliers.cosine", "at least 0.001"]),
    ({"scores.knn_k": 10**9}, ["scores.knn_k", "training images. Lower it"]),
    ({"scores.nnguide_k": 10**9}, ["scores.nnguide_k", "training images. Lower it"]),
    ({"scores.vim_dim": 10**9}, ["scores.vim_dim", "leave nothing of the 64 features"]),
    ({"evaluate.bootstrap": 10**30}, ["evaluate.bootstrap", "at most 100,000"]),
    ({"features.batch_size": 10**30}, ["features.batch_size", "at most 131,072"]),
    ({"features.odin.temperature": 1e-320}, ["features.odin.temperature", "at least 0.001"]),
    ({"scores.energy_temperature": 1e-320}, ["scores.energy_temperature", "at least 0.001"]),
    ({"align.temperature": 1e-320}, ["align.temperature", "at least 0.001"]),
    ({"pretrain.runs.ce.tau": 1e-320}, ["pretrain.runs.ce.tau", "at least 0.001"]),
    ({"um.threshold": 1e308}, ["um.threshold", "at most 100"]),
    ({"oe.runs.oe.weight": 1e308}, ["oe.runs.oe.weight", "at most 1000"]),
    ({"um.training.lr": 1e-320}, ["um.training.lr", "at least 1e-12"]),
    ({f"pretrain.runs.{'x' * 240}": {}}, ["pretrain.runs.", "at most 60"]),
    ({"augment.pad": 2**31}, ["augment.pad", "less than 4,096"]),
    ({"augment.pad": 8}, ["augment.pad", "8 pixels around images of 8", "nothing but padding"]),
    ({"pretrain.runs.l2.augment": {"pad": 9}}, ["pretrain.runs.l2.augment.pad", "9 pixels around images of 8"]),
    ({"runtime.threads": 10**9}, ["runtime.threads", "at most 1,024"]),
    ({"net.name": "wrn_10_100000"}, ["net.name", "no such network"]),
    ({"net.name": "wrn_10_1000"}, ["net.name", "64 wide"]),
    ({"net.name": "resnet_8_" + "1" * 5000}, ["net", "no such network"]),
    ({"mask.runs.um.init": "Ce_1"}, ["mask.runs.um.init", "lower-case letters, digits and hyphens"]),
    ({"prompts.template": "well " * 80 + "{name}"}, ["prompts", "beyond the 77 tokens", "Shorten prompts.template"]),
    ({"seeds": {"a": 1}}, ["seeds", "must be a list"]),
    ({"um.training.nesterov": "yes"}, ["um.training.nesterov", "true or false"]),
    ({"judge.run": 7}, ["judge.run", "must be text"]),
    ({"data.id.label_noise": {"share": 1.0}}, ["data.id.label_noise.share", "less than 1"]),
    ({"data.id.label_noise": {"kind": "file"}}, ["data.id.label_noise", "path belongs to kind 'file'"]),
    ({"data.id.label_noise": {"kind": "file", "path": "x.csv", "share": 0.1}}, ["data.id.label_noise", "Set it to 0.0"]),
    ({"data.id.label_noise": {"kind": "file", "path": "images/none.csv"}}, ["data.id.label_noise.path", "images/none.csv", "no such file"]),
    ({"data.id.label_noise": {"share": 0.1, "pairs": {"1": "7"}}}, ["data.id.label_noise", "pairs belong to kind 'confusable'"]),
    ({"data.id.label_noise": CONFUSED | {"pairs": {"1": "9"}}}, ["data.id.label_noise.pairs", "no class '9'", "Known: 0,"]),
    ({"data.id.label_noise": CONFUSED | {"pairs": {"1": "1"}}}, ["data.id.label_noise", "confused with itself"]),
    ({"um.runs.selective.forget": {"by": "guess"}}, ["um.runs.selective.forget.by", "early_doubt", "random"]),
    ({"um.runs.selective.constraint": "none"}, ["um.runs.selective", "Name it as constraint"]),
    ({"mask.runs.um.epochs": None}, ["um.runs.selective.forget.by: early_doubt", "kept epochs", "Set mask.runs.um.epochs"]),
    (
        {"mask.runs.um.epochs": None, "um.runs.selective.forget": {"by": "random"}},
        ["um.runs.selective.forget.share: null", "mask.runs.um.epochs"],
    ),
    ({"mask.runs.late": {"init": "middle", "epochs": 2}}, ["mask.runs.late.epochs", "'middle' keeps no epochs"]),
    ({"pretrain.training.ema": 1.0}, ["pretrain.training.ema", "less than 1"]),
    ({"net.name": "airbench_64_256_4096"}, ["net.name", "widths from 1 to 2048"]),
    ({"data.min_per_class": 30}, ["class '0' has 178 images, of which", "data.min_per_class asks for 30", "more classes"]),
]


@pytest.mark.parametrize(
    ("changes", "words"), BAD, ids=[next(iter(changes)) + "=" + str(next(iter(changes.values())))[:20] for changes, _ in BAD]
)
def test_bad_values_name_key_and_remedy(workspace, changes, words):
    workspace.set(changes)
    message = problem(workspace)
    assert "params.yaml" in message
    for word in words:
        assert word in message, message
    assert len(message.splitlines()) == 1, "one mistake, one line"


def test_every_problem_is_listed_at_once(workspace):
    workspace.set({"um.treshold": 1, "mask.keep": 7, "umm": {}})
    assert len(problem(workspace).splitlines()) == 3


def test_missing_keys_and_files(workspace, tmp_path):
    text = (workspace.path / "params.yaml").read_text()
    (workspace.path / "params.yaml").write_text(text.replace("outlier_batch", "# outlier_batch"))
    assert "oe.outlier_batch: missing" in problem(workspace)
    (workspace.path / "params.yaml").write_text("models: {ce: msp, ce: energy}")
    with pytest.raises(InputError, match="duplicate key"):  # a set or model that counts twice would bend every mean
        Params(workspace.path / "params.yaml")
    (workspace.path / "params.yaml").write_text("seeds: [0")
    with pytest.raises(InputError, match="line 1: not valid YAML"):
        Params(workspace.path / "params.yaml")
    with pytest.raises(InputError, match="no such file"):
        Params(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nseeds: [2001-02-30]", ["line 2", "'2001-02-30'", "quotes"]),
        ("seeds: !!int x", ["line 1", "'x'"]),
        ("seeds:\n- !!bool x", ["line 2", "'x'"]),
        ("%YAML 1.3\n---\nseeds: [0]", ["YAML"]),
        (f"seeds: [{'1' * 5000}]", ["line 1", "'1111111111"]),
        ('seeds: ["\\UFFFFFFFF"]', ["YAML"]),
        (f"seeds: {'[' * 500}{']' * 500}", ["nested too deeply"]),
        ("seeds: {" * 3000, ["params.yaml"]),
        ("a: b: c", ["line 1", "not valid YAML"]),
        ("seeds: [0]\n\tdata: 1", ["line 2", "not valid YAML"]),
        ("seeds: *nothing", ["line 1", "not valid YAML"]),
        ("seeds: !foo 3", ["line 1"]),
        ("? [a, b]\n: 1", ["params.yaml"]),
        ("42", ["expected sections at the top level"]),
        ("", ["expected sections at the top level"]),
        ("seeds: [0]\0", ["params.yaml"]),
    ],
)
def test_what_yaml_itself_fails_on_is_one_line_that_says_where(tmp_path, text, words):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        check(Params(path))
    message = str(caught.value)
    for word in words:
        assert word in message, message
    assert len(message.splitlines()) == 1 or "missing" in message, message
    assert "ruamel" not in message, message


def test_what_only_a_folder_knows_is_checked_before_diffusion_trains(workspace):
    """Unknown names and prompts beyond the text encoder's tokens were found after it had."""
    params = Params(workspace.path / "params.yaml")
    with pytest.raises(InputError, match=r"prompts\.names\.0: no such ID class\. Known: cat, dog"):
        check_against(params, ["cat", "dog"], 100)
    workspace.set({"prompts.names": {}, "prompts.words": {}, "prompts.template": "so " * 74 + "{name}", "scores.knn_k": 101})
    params = Params(workspace.path / "params.yaml")
    check_against(params, ["cat", "dog"], 101)
    workspace.set({"prompts.template": "so " * 75 + "{name}"})
    with pytest.raises(InputError) as caught:
        check_against(Params(workspace.path / "params.yaml"), ["cat", "dog"], 100)
    said = str(caught.value)
    assert "'cat', and 1 more: beyond the 77 tokens" in said
    assert "scores.knn_k: 101 neighbours, but there are 100 training images" in said


def test_a_constraint_at_the_loss_of_guessing_is_refused(workspace):
    workspace.set({"prompts.names": {}, "prompts.words": {}})

    def refused(**thresholds: float) -> list[str]:
        workspace.set({key.replace("__", ".").replace("_um", "-um"): value for key, value in thresholds.items()})
        params = Params(workspace.path / "params.yaml")
        check_against(params, None, 200)
        try:
            check_against(params, ["cat", "dog"], 200)  # ln 2 = 0.693
        except InputError as error:
            return [line.removeprefix(f"{params.path}: ").split(":")[0] for line in str(error).splitlines()]
        return []

    assert refused(um__threshold=0.69, umap__threshold=0.69, oe__runs__oe_um__threshold=0.7) == ["oe.runs.oe-um.threshold"]
    assert refused(um__threshold=0.7, umap__threshold=0.69, oe__runs__oe_um__threshold=0.6) == ["um.threshold"]
    assert refused(um__threshold=0.6, umap__threshold=0.7) == ["umap.threshold"]
    free = {"init": "ce", "constraint": "none"}
    workspace.set({"umap.runs": {"umap": free, "umap-control": free}})
    assert refused() == [], "no run is held at it"


def test_the_counts_of_digits_are_those_of_the_library():
    from sklearn.datasets import load_digits

    assert np.bincount(load_digits().target).tolist() == list(digits.COUNTS)


def test_a_network_has_as_many_features_as_its_name_says():
    for name, size in [
        *(("wrn_16_4", 32), ("densenet_bc_100_12", 32), ("densenet_bc_22_7", 32), ("allconv", 32), ("resnet18", 32), ("resnet34", 32)),
        *(("resnet50", 32), ("resnet_20_3", 32), ("vgg16", 32), ("cct_7_3x1", 32), ("convnext_tiny", 32), ("mnist_convnet", 28)),
    ]:
        assert nets.build(name, num_classes=3, size=size).fc.in_features == Net(name=name).features, name


def test_sections_are_read_one_by_one(workspace):
    """A stage sees its own sections only: somebody else's mistake isn't its business (check finds it)."""
    workspace.set({"um.treshold": 1})
    params = Params(workspace.path / "params.yaml")
    assert Common.read(params).seeds == [0, 1]
    assert params[Evaluate].roles == ["val", "test"]


def test_check_needs_no_torch():
    code = (
        "import sys, stages.check\n"
        "from ood.config import Params\nfrom ood.config.data import Data\n"
        "from ood.config.whole import check\nfrom ood.data import catalog\n"
        "p = Params(); check(p); catalog.check(p[Data])\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_numbers_like_1e_4_are_numbers(workspace):
    """YAML 1.1 reads 1e-4 as text; DVC and this project read YAML 1.2."""
    path = workspace.path / "params.yaml"
    path.write_text(path.read_text().replace('"lr": 0.1,', '"lr": 1e-1,'))
    assert "1e-1" in path.read_text()
    assert Params(path)[UM].training.lr == 0.1


def test_a_name_that_yaml_reads_as_a_number_is_told_how_to_quote(tmp_path):
    text = (ROOT / "params.yaml").read_text().replace("names: {'0': zero,", "names: {0: zero,")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(InputError, match=r"prompts\.names\.0: names are text.*quotes: '0'"):
        check(Params(tmp_path / "params.yaml"))

"""Parameters: what is refused, and whether the message names the key and the remedy."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT, Workspace

from ood.config import Params
from ood.config.evaluation import Evaluate
from ood.config.training import Common, Training
from ood.config.whole import SECTIONS, check
from ood.data import catalog
from ood.errors import InputError


def problem(workspace: Workspace) -> str:
    """What `check` says about a workspace's params.yaml."""
    try:
        params = Params(workspace.path / "params.yaml")
        check(params)
        catalog.check(params.section("data", SECTIONS["data"]))
    except InputError as error:
        return str(error)
    raise AssertionError("check found nothing wrong")


def test_the_shipped_parameters_pass():
    check(Params(ROOT / "params.yaml"))


BAD = [
    ({"um.treshold": 0.3}, ["um.treshold", "unknown key", "threshold"]),
    ({"oe.runs.oe.lamda": 1}, ["oe.runs.oe.lamda", "unknown key"]),
    ({"data.far.gaussian.sigma": 1}, ["data.far.gaussian.sigma", "unknown key"]),
    ({"umm": {}}, ["umm", "unknown section"]),
    ({"um.threshold": -1}, ["um.threshold", "greater than or equal to 0", "-1"]),
    ({"um.threshold": "low"}, ["um.threshold", "number", "'low'"]),
    ({"mask.keep": 1.5}, ["mask.keep", "less than or equal to 1"]),
    ({"seeds": [0, 0]}, ["seeds", "twice"]),
    ({"seeds": []}, ["seeds", "at least 1"]),
    ({"net.name": "resnet99"}, ["net.name", "wrn_<depth>_<width>", "'resnet99'"]),
    ({"net.name": "wrn_12_1"}, ["net.name", "10, 16, 22"]),
    ({"data.chain.size": 9}, ["data.chain", "multiple of 4"]),
    ({"data.id.split.train": 0.9}, ["data.id.split", "must be 1"]),
    ({"data.id.images": {"source": "folder", "path": "images/none"}}, ["data.id.images.path", "images/none", "no such folder"]),
    ({"data.far.mine": {"source": "folder", "path": "nowhere"}}, ["data.far.mine.path", "nowhere", "no such folder"]),
    ({"data.near.letters.characters": "AO"}, ["data.near.letters", "'O'", "reads as a digit"]),
    ({"data.near.letters.fonts": ["Arial"]}, ["data.near.letters.fonts", "Arial"]),
    ({"data.far.flower.image": "moon.jpg"}, ["data.far.flower.image", "'moon.jpg'"]),
    ({"data.far.x": {"source": "corruption", "kind": "jigsaw"}}, ["corruptions", "validation"]),
    ({"data.far.blobs.blur": None}, ["data.far.blobs", "blur"]),
    ({"mask.run": "best"}, ["mask.run", "'best'", "Known: ce, l2"]),
    ({"mask.run": "scratch"}, ["mask.run", "'scratch'"]),
    ({"oe.runs.oe.init": "cee"}, ["oe.runs.oe.init", "'cee'", "Known:"]),
    ({"oe.runs.oe.constraint": "um"}, ["oe.runs.oe.constraint", "Set it to um"]),
    ({"oe.runs.ce": {"init": "ce"}}, ["'ce' is taken twice"]),
    ({"oe.runs.no-outliers.weight": 1.0}, ["oe.runs.no-outliers", "weight has no meaning"]),
    ({"oe.runs.oe-control.m_in": 5.0}, ["oe.runs.oe-control", "below m_out"]),
    ({"oe.runs.oe.m_in": -5.0}, ["oe.runs.oe", "belong to objective 'energy'"]),
    ({"pretrain.keep_epochs": -1}, ["pretrain.keep_epochs", "greater than or equal to 0"]),
    ({"um.threshold": True}, ["um.threshold", "number", "True"]),
    ({"um.training.epochs": True}, ["um.training.epochs", "integer"]),
    ({"seeds": [True]}, ["seeds", "integer"]),
    ({"um.training.lr": float("inf")}, ["um.training.lr", "finite"]),
    ({"data.id.images.classes": [3]}, ["data.id", "at least two"]),
    ({"data.id.images.classes": [3, 3]}, ["data.id.images.classes", "twice"]),
    ({"data.near.digits-8-9.classes": [7, 8]}, ["near.digits-8-9", "7 is ID"]),
    ({"data.validation.ghost": {"source": "corruption", "kind": "ghost"}}, ["validation.ghost", "grey"]),
    ({"data.far.c": {"source": "torchvision", "name": "MNIST", "classes": [12]}}, ["data.far.c", "no class 12"]),
    ({"data.near.letters.characters": "A "}, ["data.near.letters", "no ink"]),
    ({"oe.runs.mask": {"init": "ce"}}, ["'mask'", "Rename"]),
    ({"data.validation.flip-vertical.classes": [12]}, ["validation.flip-vertical", "12 is no ID class"]),
    ({"data.far.flower.image": "china.jpg"}, ["photo china.jpg", "auxiliary.china", "far.flower"]),
    ({"data.auxiliary.eight": {"source": "digits", "classes": [8]}}, ["digit 8", "two roles"]),
    ({"report.pairs.l2": "l2"}, ["report.pairs.l2", "its own control"]),
    ({"pretrain.runs.l2.epochs": 7}, ["report.pairs.l2", "trains differently", "epochs 7 against 3"]),
    ({"models.magic": "msp"}, ["models.magic", "no such run"]),
    ({"models.ce": "mps"}, ["models.ce", "msp"]),
    ({"trace.runs.scratch": "energy"}, ["trace.runs.scratch"]),
    ({"pretrain.keep_epochs": 0, "trace.runs": {"ce": "energy"}}, ["trace.runs.ce", "keep_epochs"]),
    ({"report.pairs.l2": "nothing"}, ["report.pairs.l2", "'nothing'"]),
    ({"evaluate.roles": ["test"]}, ["evaluate", "'val' must be"]),
    ({"runtime.precision": "fp8"}, ["runtime.precision", "'fp8'"]),
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
    with pytest.raises(InputError, match="not valid YAML"):
        Params(workspace.path / "params.yaml")
    with pytest.raises(InputError, match="no such file"):
        Params(tmp_path / "none.yaml")


def test_sections_are_read_one_by_one(workspace):
    """A stage sees its own sections only: somebody else's mistake isn't its business (check finds it)."""
    workspace.set({"um.treshold": 1})
    params = Params(workspace.path / "params.yaml")
    assert Common.read(params).seeds == [0, 1]
    assert params.section("evaluate", Evaluate).roles == ["val", "test"]


def test_check_needs_no_torch():
    code = (
        "import sys, stages.check\n"
        "from ood.config import Params\nfrom ood.config.whole import check, SECTIONS\nfrom ood.data import catalog\n"
        "p = Params(); check(p); catalog.check(p.section('data', SECTIONS['data']))\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_numbers_like_1e_4_are_numbers(workspace):
    """YAML 1.1 reads 1e-4 as text; DVC and this project read YAML 1.2."""
    path = workspace.path / "params.yaml"
    path.write_text(path.read_text().replace('"lr": 0.1,', '"lr": 1e-1,'))
    assert "1e-1" in path.read_text()
    assert Params(path).section("um.training", Training).lr == 0.1

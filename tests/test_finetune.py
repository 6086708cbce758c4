"""What makes a run its method: that the stages hand the right objective, level and weights to the one training loop."""

import csv
from pathlib import Path

import pytest
import torch
from conftest import Workspace
from safetensors.torch import load_file

from ood.config.methods import OERun
from ood.training.exposure import objective_for
from ood.training.objectives import EnergyMargin, EnergyRegularizer, LabelledInliers, Objective, OutlierExposure

B = 50.0  # far above any loss here: |ce - b| + b is 2 b - ce in every batch, and so in every mean


def history(workspace: Workspace, run: str) -> list[dict[str, float]]:
    with (workspace.path / f"metrics/training/{run}.csv").open() as stream:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def constrained(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """um, umap and oe-um held at B, and the controls, which must not be."""
    workspace = trained.copy(tmp_path_factory.mktemp("constrained"))
    slow = {f"{section}.training.lr": 1e-4 for section in ("um", "umap", "oe")}  # up to B is a long way: nothing may run away on it
    workspace.set({"seeds": [0], "um.threshold": B, "umap.threshold": B} | slow)
    for command in ("um um", "um control", "umap umap", "umap umap-control", "oe oe-um", "oe oe-from-um", "oe energy"):
        workspace.stage(command)
    return workspace


def test_um_umap_and_oe_from_um_train_on_the_constrained_loss(constrained):
    for run in ("um", "umap"):
        for row in history(constrained, run):
            assert row["ce"] < B / 2, "or a batch may lie above B"
            assert row["loss"] == pytest.approx(2 * B - row["ce"], abs=1e-3), run
    for run in ("oe-um", "oe-from-um"):
        for row in history(constrained, run):
            assert row["loss"] == pytest.approx(2 * B - row["ce"] + 0.5 * row["outlier"], abs=1e-3), run


def test_controls_train_on_plain_cross_entropy(constrained):
    for run in ("control", "umap-control"):
        for row in history(constrained, run):
            assert row["loss"] == row["ce"], run
    for row in history(constrained, "energy"):
        assert row["loss"] == pytest.approx(row["ce"] + 0.1 * row["outlier"], rel=1e-4), "um's threshold is none of its business"


def test_um_moves_other_weights_than_its_control_from_the_same_start(constrained):
    def weights(run: str) -> torch.Tensor:
        return torch.cat([tensor.float().flatten() for _, tensor in sorted(load_file(path(run)).items())])

    def path(run: str) -> Path:
        return constrained.path / f"data/models/{run}/0/model.safetensors"

    base, um, control = (weights(run) for run in ("ce", "um", "control"))
    assert not torch.equal(um, control)
    assert not torch.equal(um, base)
    assert not torch.equal(control, base)


def run(**values) -> OERun:
    return OERun(**({"init": "ce", "constraint": "none", "outliers": "prepared/auxiliary"} | values))


def test_every_objective_of_oe_runs():
    """Name -> formula, with its weight and b; the formulas themselves are tested in test_objectives and test_dream."""
    torch.manual_seed(0)
    uniform = objective_for(run(objective="uniform", weight=0.7), 0.3)
    assert (type(uniform), uniform.weight, uniform.b) == (OutlierExposure, 0.7, 0.3)
    assert objective_for(run(objective="uniform"), None).weight == 0.5
    margins = objective_for(run(objective="energy", m_in=-9.0, m_out=-4.0), None)
    assert (type(margins), margins.weight, margins.m_in, margins.m_out, margins.b) == (EnergyMargin, 0.1, -9.0, -4.0, None)
    dreams = {"outliers": "dreamed/x", "cut": 1.0}
    dream = objective_for(run(objective="dream", phi="affine", **dreams), 0.2)
    assert (type(dream), dream.weight, dream.b) == (EnergyRegularizer, 1.0, 0.2)
    assert isinstance(dream.phi, torch.nn.Linear)
    assert isinstance(objective_for(run(objective="dream", phi="mlp", **dreams), None).phi, torch.nn.Sequential)
    assert isinstance(objective_for(run(objective="label", **dreams), None), LabelledInliers)
    assert type(objective_for(run(objective="none"), 0.1)) is Objective

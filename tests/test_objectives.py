"""Every objective against its formula, and the statements of the fact sheets."""

import math

import pytest
import torch
import torch.nn.functional as F

from ood.training.objectives import EnergyMargin, Objective, OutlierExposure, energy_margin, loss_constraint, outlier_exposure
from ood.unmask.margins import margin


@pytest.fixture
def logits():
    return torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(3).requires_grad_()


def test_outlier_exposure_is_cross_entropy_to_uniform(logits):
    uniform = torch.full_like(logits, 1 / 5)
    assert torch.allclose(outlier_exposure(logits), F.cross_entropy(logits, uniform), atol=1e-6)
    assert outlier_exposure(torch.ones(3, 5)).item() == pytest.approx(math.log(5))


def test_outlier_exposure_gradient_is_softmax_minus_uniform():
    one = torch.randn(1, 5, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(outlier_exposure(one), one)
    assert torch.allclose(gradient, one.softmax(1) - 1 / 5)


def test_outlier_exposure_differs_from_pytorch_oods_joint_mean(logits):
    """peers.md: the library averages over ID and outliers together; with N ID and 2N outliers that is (CE + OE)/3 at alpha 0.5."""
    loss = pytest.importorskip("pytorch_ood.loss")
    inliers, outliers, labels = logits[:4].float(), logits[4:12].float(), torch.tensor([0, 1, 2, 3])
    ours, _ = OutlierExposure(0.5)(inliers, labels, outliers)
    library = loss.OutlierExposureLoss(alpha=0.25)(torch.cat([inliers, outliers]), torch.cat([labels, torch.full((8,), -1)]))
    assert torch.allclose(ours, 3 * library)


def test_each_half_has_its_own_mean(logits):
    labels = torch.tensor([0, 1, 2, 3])
    loss, terms = OutlierExposure(0.5)(logits[:4], labels, logits[4:])
    expected = F.cross_entropy(logits[:4], labels) + 0.5 * (logits[4:].logsumexp(1) - logits[4:].mean(1)).mean()
    assert torch.allclose(loss, expected)
    assert torch.allclose(terms["ce"], F.cross_entropy(logits[:4], labels))


def test_loss_constraint_descends_above_and_ascends_below():
    for value, slope in ((0.7, 1.0), (0.2, -1.0), (0.5, 0.0)):
        ce = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        loss = loss_constraint(ce, 0.5)
        loss.backward()
        assert loss.item() == pytest.approx(abs(value - 0.5) + 0.5)
        assert ce.grad.item() == slope


def test_loss_constraint_of_zero_is_cross_entropy(logits):
    labels = torch.arange(12) % 5
    plain, _ = Objective()(logits, labels, None)
    constrained, _ = Objective(b=0.0)(logits, labels, None)
    assert torch.equal(plain, constrained)


def test_constraint_acts_on_the_batch_mean_not_per_sample():
    """Per-sample losses (0, 2b) have mean b: no gradient. Constrained per sample they would have one."""
    b = 0.7
    probability = math.exp(-2 * b)
    other = math.log((1 - probability) / probability)
    logits = torch.tensor([[60.0, 0.0], [0.0, other]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0])
    level = F.cross_entropy(logits, labels).item()
    assert level == pytest.approx(b)
    loss, _ = Objective(b=level)(logits, labels, None)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.count_nonzero(gradient) == 0
    per_sample = ((F.cross_entropy(logits, labels, reduction="none") - level).abs() + level).mean()
    assert torch.count_nonzero(torch.autograd.grad(per_sample, logits)[0]) > 0


def test_energy_margin_formula_and_oracle(logits):
    inliers, outliers, labels = logits[:4], logits[4:], torch.tensor([0, 1, 2, 3])
    energy_in, energy_out = -inliers.logsumexp(1), -outliers.logsumexp(1)
    expected = F.relu(energy_in + 6).square().mean() + F.relu(-3 - energy_out).square().mean()
    assert torch.allclose(energy_margin(inliers, outliers, -6.0, -3.0), expected)
    loss, _ = EnergyMargin(0.1, -6.0, -3.0)(inliers, labels, outliers)
    assert torch.allclose(loss, F.cross_entropy(inliers, labels) + 0.1 * expected)
    library = pytest.importorskip("pytorch_ood.loss")
    oracle = library.EnergyRegularizedLoss(alpha=0.1, margin_in=-6.0, margin_out=-3.0)
    assert torch.allclose(loss, oracle(torch.cat([inliers, outliers]), torch.cat([labels, torch.full((8,), -1)])))


def test_energy_margin_is_zero_outside_the_margins():
    assert energy_margin(torch.full((2, 3), 20.0), torch.full((2, 3), -20.0), -9.0, -4.0) == 0


def test_an_objective_without_outliers_refuses_them(logits):
    with pytest.raises(TypeError, match="no outliers"):
        Objective()(logits[:4], torch.tensor([0, 1, 2, 3]), logits[4:])


def test_margin():
    assert margin(torch.tensor([[3.0, 1.0], [0.0, 2.0]]), torch.tensor([0, 0])).tolist() == [2.0, -2.0]

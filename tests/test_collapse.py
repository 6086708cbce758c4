"""Neural collapse: closed forms."""

import math

import pytest
import torch

from ood.evaluation.collapse import KEYS, neural_collapse


def simplex(classes: int, width: int) -> torch.Tensor:
    """Unit vectors of a regular simplex, (C, D), turned at random."""
    centred = torch.eye(classes, dtype=torch.float64) - 1 / classes
    turn, _ = torch.linalg.qr(torch.randn(width, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    return (centred / centred.norm(dim=1, keepdim=True)) @ turn[:classes]


@pytest.mark.parametrize("classes", [3, 10])
def test_a_perfect_simplex_is_fully_collapsed(classes):
    means = simplex(classes, 16)
    labels = torch.arange(5 * classes) % classes
    found = neural_collapse(means[labels] * 7 + 3, labels, means * 2, labels)
    assert found == pytest.approx(dict.fromkeys(KEYS, 0.0), abs=1e-9)


def test_spread_within_classes_is_measured_against_that_between():
    """C classes on the axes at distance a from the origin, noise of variance v in every class: NC1 = v (C - 1) C / a^2 / C."""
    classes, a, step = 4, 5.0, 0.1
    means = torch.eye(classes, dtype=torch.float64) * a
    noise = torch.cat([torch.eye(classes), -torch.eye(classes)]).double() * step  # covariance step^2 / C in every direction
    features = (means[:, None] + noise).flatten(0, 1)
    labels = torch.arange(classes).repeat_interleave(len(noise))
    found = neural_collapse(features, labels, means, labels)
    # S_B = a^2 / C (I - 11'/C): its pseudo-inverse is C / a^2 on C - 1 dimensions; S_W = step^2 / C I.
    assert found["nc1"] == pytest.approx((step**2 / classes) * (classes / a**2) * (classes - 1) / classes)
    assert found["nc4"] == 0


def test_unequal_norms_angles_and_a_foreign_last_layer():
    means = simplex(3, 8)
    labels = torch.arange(9) % 3
    weight = torch.stack([means[1] * 3, means[0], means[2]])
    found = neural_collapse(means[labels], labels, weight, (means[labels] @ weight.T).argmax(1))
    assert found["nc2_weight_norms"] == pytest.approx(math.sqrt(8 / 9) / (5 / 3))  # lengths 3, 1, 1
    assert found["nc4"] == pytest.approx(2 / 3), "the last layer takes classes 0 and 1 for each other"
    assert found["nc3"] > 0.5
    square = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    found = neural_collapse(square, torch.arange(4), square, torch.arange(4))
    assert found["nc2_angles"] == pytest.approx((4 * (2 / 3) + 8 * (1 / 3)) / 12), "cosines -1 and 0 instead of -1/3"
    assert found["nc2_cosines"] == pytest.approx(math.sqrt(2 / 9)), "four of -1, eight of 0"

"""Scores: formulas, oracles, invariances, direction."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ood import nets
from ood.detection.scores import KNN, RMD, Head, Mahalanobis, ReAct, ViM, energy, feature_norm, max_logit, msp, odin, xent


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 4
    centres = torch.randn(4, 16, generator=generator) * 3
    train = centres[labels] + torch.randn(120, 16, generator=generator)
    test = torch.cat([centres[labels[:40]] + torch.randn(40, 16, generator=generator), torch.randn(40, 16, generator=generator) * 6])
    head = Head(torch.randn(4, 16, generator=generator), torch.randn(4, generator=generator))
    return train.relu(), labels, test.relu(), head


def test_simple_scores_against_their_formulas(data):
    logits = data[3].logits(data[2])
    assert torch.equal(msp(logits), -logits.softmax(1).max(1).values)
    assert torch.equal(max_logit(logits), -logits.max(1).values)
    assert torch.allclose(energy(logits), -logits.exp().sum(1).log(), atol=1e-4)
    assert torch.allclose(energy(logits, 2.0), -2 * (logits / 2).logsumexp(1))
    assert torch.allclose(feature_norm(data[2]), -data[2].square().sum(1).sqrt())


def test_xent_is_what_oe_trains_outliers_for():
    """OE sheet, 1.1: cross-entropy of the uniform distribution and the softmax; log C, its least, where all logits are equal."""
    logits = torch.randn(60, 7, generator=torch.Generator().manual_seed(0)) * 4
    expected = F.cross_entropy(logits, torch.full((60, 7), 1 / 7), reduction="none")
    assert torch.allclose(xent(logits), -expected, rtol=1e-5)
    assert torch.allclose(xent(logits + 5), xent(logits), atol=1e-5), "a softmax's score"
    assert (xent(logits) <= -math.log(7)).all()
    unsure, sure = xent(torch.tensor([[1.0, 1, 1, 1], [9.0, 0, 0, 0]]))
    assert unsure.item() == pytest.approx(-math.log(4))
    assert unsure > sure, "larger = more OOD"


def test_msp_range():
    logits = torch.randn(100, 7) * 5
    assert (msp(logits) >= -1).all()
    assert (msp(logits) <= -1 / 7).all()


def test_scores_agree_with_pytorch_ood(data):
    """On pooled features; where library and paper agree. Our ODIN is checked against its own formula below."""
    detector = pytest.importorskip("pytorch_ood.detector")
    train, labels, test, head = data
    logits = head.logits(test)
    assert torch.allclose(msp(logits), detector.MaxSoftmax.score(logits), atol=1e-6)
    assert torch.allclose(max_logit(logits), detector.MaxLogit.score(logits), atol=1e-6)
    assert torch.allclose(energy(logits), detector.EnergyBased.score(logits), atol=1e-6)
    vim = detector.ViM(None, d=8, w=head.weight, b=head.bias)
    vim.fit_features(train, labels)
    ours = ViM(head, 8).fit(train).score(test)
    theirs = torch.as_tensor(vim.predict_features(test)).double()
    assert np.corrcoef(ours, theirs)[0, 1] > 0.9999


def test_mahalanobis_against_a_loop(data):
    train, labels, test, _ = data
    found = Mahalanobis().fit(train, labels).score(test)
    x = train.double().numpy()
    means = np.stack([x[labels == c].mean(0) for c in range(4)])
    centred = x - means[labels]
    precision = np.linalg.pinv(centred.T @ centred / len(x))
    expected = [min((row - m) @ precision @ (row - m) for m in means) for row in test.double().numpy()]
    assert np.allclose(found, expected)


def test_mahalanobis_survives_dead_features(data):
    train, labels, test, _ = data
    train, test = train.clone(), test.clone()
    train[:, 3] = test[:, 3] = 0
    assert torch.isfinite(Mahalanobis().fit(train, labels).score(test)).all()


def test_knn_against_scikit_learn(data, monkeypatch):
    from sklearn.neighbors import NearestNeighbors

    train, _, test, _ = data
    bank, queries = F.normalize(train.double(), dim=1).numpy(), F.normalize(test.double(), dim=1).numpy()
    distances, _ = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(bank).kneighbors(queries)
    monkeypatch.setattr("ood.detection.scores.CELLS", 7 * len(train))  # seven images at a time
    assert np.allclose(KNN(5).fit(train).score(test), distances[:, -1], atol=1e-6)


def test_k_larger_than_the_training_set_is_refused(data):
    with pytest.raises(ValueError, match="k = 200"):
        KNN(200).fit(data[0])


def test_vim_needs_a_residual_space(data):
    """OpenOOD's defect: a principal space as wide as the features leaves nothing, and scores become NaN."""
    train, _, test, head = data
    assert torch.isfinite(ViM(head).fit(train).score(test)).all()
    with pytest.raises(ValueError, match="no residual"):
        ViM(head, 16).fit(train)
    assert not torch.allclose(ViM(head, 4).fit(train).score(test), ViM(head, 12).fit(train).score(test))


def test_react_clips(data):
    train, _, test, head = data
    plain = energy(head.logits(test))
    assert torch.allclose(ReAct(head, 1.0).fit(train).score(test.clamp(max=train.max())), energy(head.logits(test.clamp(max=train.max()))))
    clipped = ReAct(head, 0.5).fit(train)
    assert clipped.threshold == pytest.approx(float(train.flatten().quantile(0.5)), abs=0.05)
    assert torch.allclose(clipped.score(test), energy(head.logits(test.clamp(max=clipped.threshold))))
    assert not torch.allclose(clipped.score(test), plain)


def test_odin_without_step_and_temperature_is_msp():
    net = nets.build("wrn_10_1", num_classes=4, size=8).eval()
    images = torch.rand(6, 3, 8, 8)
    assert torch.allclose(odin(net, images, 1.0, 0.0), msp(net(images)), atol=1e-6)


def test_odin_steps_against_the_gradient():
    net = nets.build("wrn_10_1", num_classes=4, size=8).eval()
    images = torch.rand(6, 3, 8, 8)
    leaf = images.clone().requires_grad_()
    logits = net(leaf) / 10
    F.cross_entropy(logits, logits.argmax(1), reduction="sum").backward()
    sign = leaf.grad.sign()
    sign[sign == 0] = 1
    expected = msp(net(images - 0.01 * sign) / 10)
    assert torch.allclose(odin(net, images, 10.0, 0.01), expected, atol=1e-6)
    assert (odin(net, images, 10.0, 0.01) <= msp(net(images) / 10) + 1e-6).all()


def test_a_normalising_head_sees_directions(data):
    train, _, _, head = data
    normalising = Head(head.weight, head.bias, normalize=True)
    assert torch.allclose(normalising.input(train).norm(dim=1), torch.ones(120))
    assert torch.allclose(normalising.input(train * 7), normalising.input(train), atol=1e-6)
    assert math.isclose(float(feature_norm(train * 7)[0]), 7 * float(feature_norm(train)[0]), rel_tol=1e-5)


def test_blocks_change_no_score(data, monkeypatch):
    """Means and covariances are summed block by block, where all features in double precision would not fit beside themselves."""
    train, labels, test, head = data

    def found():
        fitted = (Mahalanobis().fit(train, labels), RMD().fit(train, labels), ViM(head, 2).fit(train))
        return [one.score(test) for one in fitted]

    whole = found()
    monkeypatch.setattr("ood.detection.scores.BLOCK", 7)
    for one, other in zip(whole, found(), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=0)

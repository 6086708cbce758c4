"""Detectors from pytorch-ood, and ours beside them: each against its paper's formula on features of real shapes."""

import pytest
import torch
import torch.nn.functional as F

from ood.config.evaluation import Scores
from ood.detection import posthoc
from ood.detection.scores import RMD, SHE, Head, energy, gen

SHAPES = [(342, 10), (512, 100)]  # DenseNet-BC on CIFAR-10, ResNet-18 on CIFAR-100


@pytest.fixture(params=SHAPES, ids=["342x10", "512x100"])
def cached(request):
    width, classes = request.param
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(1200) % classes
    centres = torch.rand(classes, width, generator=generator) * 2
    train = (centres[labels] + 0.5 * torch.randn(1200, width, generator=generator)).relu()
    test = (centres[labels[:50]] + 0.8 * torch.randn(50, width, generator=generator)).relu()
    head = Head(centres - centres.mean(0), torch.randn(classes, generator=generator) * 0.1)
    found = posthoc.fit(set(posthoc.NAMES), head, train, labels, head.logits(train), Scores())
    return train, labels, test, head, {name: score(test, head.logits(test)) for name, score in found.items()}


def test_every_detector_is_there_and_finite(cached):
    assert tuple(cached[4]) == posthoc.NAMES
    for name, scores in cached[4].items():
        assert scores.shape == (50,), name
        assert torch.isfinite(scores).all(), name
        assert scores.std() > 0, name


def test_ash_prunes_the_lowest_and_scales_by_what_is_left(cached):
    _, _, test, head, found = cached
    x = test.double()
    pruned = torch.where(x >= x.sort(1).values[:, [round(0.65 * x.shape[1])]], x, 0.0)
    shaped = pruned * torch.exp(x.sum(1) / pruned.sum(1))[:, None]
    assert torch.allclose(found["ash"], energy(shaped @ head.weight.double().T + head.bias), rtol=1e-2)


def test_scale_scales_without_pruning(cached):
    _, _, test, head, found = cached
    x = test.double()
    largest = x.topk(x.shape[1] - int(0.65 * x.shape[1]), dim=1).values
    shaped = x * torch.exp(x.sum(1) / largest.sum(1))[:, None]
    assert torch.allclose(found["scale"], energy(shaped @ head.weight.double().T + head.bias), rtol=1e-2)


def test_dice_keeps_a_tenth_of_the_contributions(cached):
    train, _, test, head, found = cached
    contributions = train.mean(0) * head.weight
    kept = torch.where(contributions > contributions.flatten().quantile(0.9), head.weight, 0.0)
    assert torch.allclose(found["dice"], energy(test @ kept.T + head.bias).double(), rtol=1e-4)


def test_gen_is_the_generalised_entropy_also_where_softmax_saturates():
    from pytorch_ood.detector import GEN

    logits = torch.randn(40, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = logits.softmax(1)
    assert torch.allclose(gen(logits), (p * (1 - p)).pow(0.1).sum(1))
    assert torch.allclose(gen(logits), 12 * GEN.score(logits), rtol=1e-6)
    p = p.topk(5, dim=1).values
    assert torch.allclose(gen(logits, 0.5, 5), (p * (1 - p)).sqrt().sum(1))
    sure = gen(torch.tensor([[30.0, 0, 0], [60.0, 0, 0], [900.0, 0, 0]]))
    assert sure[0] > sure[1] > sure[2], "pytorch-ood's version clamps at 1e-7 and can't tell these apart"


def test_kl_matching_finds_the_nearest_typical_posterior(cached):
    train, _, test, head, found = cached
    posteriors = head.logits(train).double().softmax(1)
    predicted = posteriors.argmax(1)
    typical = [posteriors[predicted == c].mean(0) for c in predicted.unique()]
    p = head.logits(test).double().softmax(1)
    divergences = torch.stack([(p * (p.log() - d.log())).sum(1) for d in typical], 1)
    assert torch.allclose(found["klm"], divergences.amin(1), rtol=1e-4, atol=1e-6)


def test_nnguide_is_energy_times_guidance(cached):
    train, _, test, head, found = cached
    bank = F.normalize(train, dim=1) * head.logits(train).logsumexp(1)[:, None]
    guidance = (F.normalize(test, dim=1) @ bank.T).topk(10, dim=1).values.mean(1)
    assert torch.allclose(found["nnguide"], -(guidance * head.logits(test).logsumexp(1)).double(), rtol=1e-4)


def test_she_agrees_with_pytorch_ood_and_survives_a_class_that_is_never_right(cached):
    from pytorch_ood.detector import SHE as Theirs

    train, labels, test, head, _ = cached
    theirs = Theirs(None, head.logits).fit_features(train, labels)
    assert torch.allclose(SHE(head).fit(train, labels).score(test), theirs.predict_features(test).double(), rtol=1e-4)
    hopeless = Head(head.weight, head.bias - 1e6 * F.one_hot(torch.tensor(0), len(head.bias)))
    assert torch.isfinite(SHE(hopeless).fit(train, labels).score(test)).all()


def test_rmd_agrees_with_pytorch_ood_where_that_is_well_conditioned():
    from pytorch_ood.detector import RMD as Theirs

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(900) % 3
    train = torch.randn(3, 8, generator=generator)[labels] * 2 + torch.randn(900, 8, generator=generator)
    test = torch.randn(40, 8, generator=generator) * 3
    theirs = Theirs(None).fit_features(train, labels).predict_features(test)
    ours = RMD().fit(train, labels).score(test)
    assert torch.allclose(ours / len(train), theirs.double(), rtol=1e-2, atol=1e-4)  # its covariances are sums, not means

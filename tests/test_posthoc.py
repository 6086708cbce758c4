"""Post-hoc detectors: each against its paper's formula on features of real shapes, and against pytorch-ood where that has it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ood.config.evaluation import Scores
from ood.detection import detectors
from ood.detection.detectors import Outputs
from ood.detection.from_images import FROM_IMAGES
from ood.detection.scores import RMD, SHE, VRA, Head, energy, gen

NAMES = ("ash", "scale", "dice", "klm", "nnguide", "fdbd", "nci")
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
    found = fitted(NAMES, head, train, labels, Scores())
    return train, labels, test, head, {name: score(Outputs.of(head, head.logits(test), test)) for name, score in found.items()}


def fitted(names, head, train, labels, setting):
    """Detectors, fitted on training features, whose logits stand for validation's."""
    return detectors.fit(names, head, Outputs.of(head, head.logits(train), train), labels, head.logits(train), setting)


def test_every_detector_is_there_and_finite(cached):
    assert tuple(cached[4]) == NAMES
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


def test_each_equals_pytorch_oods(cached):
    from pytorch_ood import detector

    train, labels, test, head, found = cached
    layer = torch.nn.Linear(*reversed(head.weight.shape))
    layer.weight, layer.bias = torch.nn.Parameter(head.weight), torch.nn.Parameter(head.bias)

    def maps(kind):
        return kind.predict_feature_maps(test.double()[:, :, None, None])

    def logits_of(features):
        return features.flatten(1) @ head.weight.double().T + head.bias.double()

    theirs = {
        "ash": maps(detector.ASH(None, logits_of, variant="ash-s", percentile=0.65)),
        "scale": maps(detector.SCALE(None, logits_of, percentile=0.65)),
        "dice": detector.DICE(None, head.weight, head.bias, 0.9).fit_features(train, labels).predict_features(test),
        "klm": detector.KLMatching(None).fit_logits(head.logits(train).double()).predict_logits(head.logits(test).double()),
        "nnguide": detector.NNGuide(None, head.logits, k=10).fit_features(train, labels).predict_features(test),
        "fdbd": detector.fDBD(None, layer).fit_features(train).predict_features(test),
        "nci": detector.NCI(None, layer, alpha=0.0001).fit_features(train).predict_features(test),
    }
    for name, expected in theirs.items():
        assert torch.allclose(found[name], expected.detach().double(), rtol=1e-5, atol=1e-5), name


@pytest.mark.parametrize("normalize", [False, True])
def test_what_was_fitted_makes_the_same_detector_again(cached, normalize, tmp_path):
    """To the bit, by way of a file: a detector that is handed on is its tensors and its formula."""
    from safetensors.torch import load_file, save_file

    train, labels, test, plain_head, _ = cached
    branch = (torch.randn(1, train.shape[1], generator=torch.Generator().manual_seed(0)), torch.zeros(1))
    words = torch.randn(9, train.shape[1], generator=torch.Generator().manual_seed(1))
    head = Head(plain_head.weight, plain_head.bias, normalize, branch, words)
    names = [name for name in detectors.NAMES if name not in FROM_IMAGES]
    outputs = Outputs.of(head, head.logits(head.input(test)), test)
    for name, one in fitted(names, head, train, labels, Scores()).items():
        save_file(one.state, tmp_path / "score.safetensors")
        again = detectors.restored(name, head, Scores(), load_file(tmp_path / "score.safetensors"))
        assert torch.equal(one(outputs), again(outputs)), name
        with pytest.raises(ValueError, match="fitted"):
            detectors.restored(name, head, Scores(), one.state | {"another": labels})


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


@pytest.fixture(params=[(512, 10, True), (512, 10, False), (512, 100, True)], ids=["512x10", "512x10-signed", "512x100"])
def plain(request):
    """Training and test features and a head of ResNet-18's shapes, with and without ReLU."""
    width, classes, rectified = request.param
    generator = torch.Generator().manual_seed(1)
    centres = torch.rand(classes, width, generator=generator) * 2 - (0 if rectified else 1)
    train = centres[torch.arange(1200) % classes] + 0.5 * torch.randn(1200, width, generator=generator)
    test = centres[torch.arange(60) % classes] + 0.8 * torch.randn(60, width, generator=generator)
    head = Head(0.1 * torch.randn(classes, width, generator=generator), torch.randn(classes, generator=generator))
    return (train.relu(), test.relu(), head) if rectified else (train, test, head)


def scored(name, train, test, head, setting=None):
    """A detector's scores of `test`."""
    labels = torch.zeros(len(train), dtype=torch.long)
    return fitted([name], head, train, labels, setting or Scores())[name](Outputs.of(head, head.logits(test), test))


def test_fdbd_is_the_mean_distance_to_the_other_classes_boundaries_by_that_to_the_training_mean(plain):
    """Liu and Qin 2024: 1 / (C - 1) sum over c != y of |z_y - z_c| / |w_y - w_c|, over |h - mu|; it is larger for ID."""
    train, test, head = plain
    mean, weight, bias = train.double().mean(0), head.weight.double(), head.bias.double()
    expected = []
    for h in test.double():
        logits = weight @ h + bias
        predicted = int(logits.argmax())
        others = [c for c in range(len(weight)) if c != predicted]
        distances = [(logits[predicted] - logits[c]) / (weight[predicted] - weight[c]).norm() for c in others]
        # The length of the way from h to where both logits are equal, which the closed form must be.
        normal = weight[predicted] - weight[others[0]]
        foot = h - normal * (normal @ h + bias[predicted] - bias[others[0]]) / (normal @ normal)
        assert torch.isclose((h - foot).norm(), distances[0])
        expected.append(-sum(distances) / len(others) / (h - mean).norm())
    assert torch.allclose(scored("fdbd", train, test, head), torch.stack(expected), rtol=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.0001, 0.05])
def test_nci_is_the_feature_along_its_class_weights_and_its_length(plain, alpha):
    """Liu and Qin 2025: w_y (h - mu) / |h - mu|, plus alpha times the L1 norm of h; it is larger for ID."""
    train, test, head = plain
    mean, weight, bias = train.double().mean(0), head.weight.double(), head.bias.double()
    expected = []
    for h in test.double():
        along = F.cosine_similarity(weight[(weight @ h + bias).argmax()], h - mean, dim=0) * weight[(weight @ h + bias).argmax()].norm()
        expected.append(-along - alpha * h.abs().sum())
    assert torch.allclose(scored("nci", train, test, head, Scores(nci_alpha=alpha)), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_vra_is_nothing_below_the_one_quantile_and_clips_at_the_other(plain):
    """Xu et al. 2023, value by value."""
    train, test, head = plain
    least, most = (train.double().quantile(share, dim=0).numpy() for share in (0.6, 0.9))
    expected = []
    for h in test.double().numpy():
        shaped = [0.0 if z < a else b if z > b else z for z, a, b in zip(h, least, most, strict=True)]
        logits = head.weight.double().numpy() @ np.array(shaped) + head.bias.double().numpy()
        expected.append(-np.log(np.exp(logits - logits.max()).sum()) - logits.max())
    found = VRA(head, 0.6, 0.9).fit(train).score(test)
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_pytorch_oods_vra_raises_low_features_to_the_threshold_which_the_paper_sets_to_0(plain):
    """Why ours is not from there: the two agree only where no feature lies below the lower threshold."""
    from pytorch_ood.detector import VRA as Theirs

    train, test, head = plain

    def both(low, test):
        theirs = Theirs(None, lambda maps: head.logits(maps.flatten(1)), low, 0.9)
        theirs.fit_feature_maps(train[:, :, None, None], torch.zeros(len(train), dtype=torch.long))
        return VRA(head, low, 0.9).fit(train).score(test), theirs.predict_feature_maps(test[:, :, None, None])

    ours, theirs = both(0.0, test.maximum(train.amin(0)))
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    ours, theirs = both(0.6, test)
    assert (ours - theirs).abs().median() > 0.5


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

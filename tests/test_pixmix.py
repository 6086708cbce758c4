"""PixMix: its mixtures by hand, its weights' distribution, fractals, and that it is drawn as all augmentation is."""

import numpy as np
import pytest
import torch
from scipy import stats
from test_training import recipe

from ood.config.training import Augment, PixMix, Strong
from ood.data import pixmix
from ood.data.batches import TrainingBatches
from ood.data.fractals import FEWEST, LARGEST, fractals
from ood.data.sets import ImageSet
from ood.data.strong import transformed


def pictures(count: int = 12, side: int = 16, *, grey: bool = False) -> torch.Tensor:
    found = torch.randint(0, 256, (count, 1 if grey else 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return found.expand(-1, 3, -1, -1).contiguous()


def test_mixtures_by_hand():
    one, other = torch.tensor([0.75]), torch.tensor([0.25])
    assert pixmix.add(one, other, 1.0, 0.5) == pytest.approx((1.0 * 0.5 + 0.5 * -0.5 + 1) / 2)  # as values 0.5 and -0.5 around 0
    assert pixmix.multiply(one, other, 2.0, 0.5) == pytest.approx(1.5**2 * 0.5**0.5 / 2)
    for mixing in pixmix.MIXINGS:
        assert torch.allclose(mixing(one, other, 1.0, 0.0), one), "of the other nothing"
        assert torch.isfinite(mixing(torch.zeros(3), torch.zeros(3), 1.3, -0.4).clamp(0, 1)).all()


def test_weights_are_drawn_as_its_authors_draw_them():
    torch.manual_seed(0)
    drawn = np.array([pixmix.weights(3.0) for _ in range(6000)])
    between = drawn[:, 1] >= 0
    assert between.mean() == pytest.approx(0.5, abs=0.03)
    for sample, known in (
        (drawn[between, 0], stats.beta(3, 1)),
        (drawn[between, 1], stats.beta(1, 3)),
        (drawn[~between, 0] - 1, stats.beta(1, 3)),
        (-drawn[~between, 1], stats.beta(1, 3)),
    ):
        assert stats.kstest(sample, known.cdf).pvalue > 1e-3


def test_fractals_are_pictures_and_always_the_same():
    found = fractals(20, 24)
    assert (found.shape, found.dtype) == ((20, 3, 24, 24), torch.uint8)
    fractals.cache_clear()
    assert torch.equal(found, fractals(20, 24))
    assert not torch.equal(found, fractals(20, 24, 1))
    assert torch.equal(found[:5], fractals(5, 24)), "more of them change none"
    ground = [(picture.flatten(1).T.unique(dim=0, return_counts=True)[1].max() / 24**2).item() for picture in found]
    assert max(ground) <= 1 - FEWEST + 0.01
    assert len({picture.numpy().tobytes() for picture in found}) == 20


def test_an_image_is_mixed_with_a_fractal_or_with_itself():
    images = pictures(60)
    found = transformed(images, torch.arange(60), Strong(pixmix=PixMix(pictures=20)))
    assert (found.shape, found.dtype) == (images.shape, torch.uint8)
    changed = (found != images).flatten(1).any(1).float().mean()
    assert 0.75 < changed < 1, "with one chance in ten nothing happens: no rounds, not augmented"
    closeness = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(images.numpy(), found.numpy(), strict=True) if b.std()]
    assert np.median(closeness) > 0.4, "what it shows is still seen"
    never = transformed(images, torch.arange(60), Strong(pixmix=PixMix(rounds=1, severity=0.1, beta=100.0, pictures=20)))
    assert (never.float() - images.float()).abs().mean() < (found.float() - images.float()).abs().mean()


def test_without_fractals_an_image_is_mixed_with_itself_alone(monkeypatch):
    monkeypatch.setattr(pixmix, "fractals", lambda *_: pytest.fail("its control has none"))
    images = pictures(30)
    found = transformed(images, torch.arange(30), Strong(pixmix=PixMix(pictures=0)))
    assert 0.7 < (found != images).flatten(1).any(1).float().mean() < 1


def test_large_images_are_mixed_with_fractals_as_large():
    """Which are drawn smaller: no number of points would fill them."""
    images = pictures(3, 700)
    found = transformed(images, torch.arange(3), Strong(pixmix=PixMix(pictures=2)))
    assert found.shape == images.shape
    assert fractals(2, 700).shape[-1] == LARGEST


def test_operations_by_hand():
    image = torch.zeros(3, 9, 9, dtype=torch.uint8)
    image[:, 4, 4] = 200
    torch.manual_seed(0)
    places = {tuple(pixmix.OPERATIONS["translate-x"](image, 10.0)[0].nonzero()[0].tolist()) for _ in range(20)}
    assert places == {(4, 1), (4, 7)}, "a third of the width, to either side"
    posterized = pixmix.OPERATIONS["posterize"](torch.full((3, 1, 1), 0b10111111, dtype=torch.uint8), 3.0)
    assert posterized[0].item() == 0b10100000, "at a level of 3 in 10, three bits of eight are kept"
    shades = torch.tensor([100, 178, 181, 200], dtype=torch.uint8).repeat(3, 1, 1)
    assert pixmix.OPERATIONS["solarize"](shades, 3.0)[0, 0].tolist() == [100, 178, 74, 55], "inverted from 256 - 76 on"
    line = torch.zeros(3, 9, 9, dtype=torch.uint8)
    line[:, :, 4] = 200
    sheared = pixmix.OPERATIONS["shear-x"](line, 10.0)[0].float()
    columns = (sheared * torch.arange(9)).sum(1) / sheared.sum(1)
    assert (columns - 4).abs().tolist() == pytest.approx([0.3 * abs(row - 4) for row in range(9)], abs=0.02)
    assert len(pixmix.OPERATIONS) == 9
    assert len({*pixmix.OPERATIONS, *pixmix.OVERLAPPING}) == 13


def test_a_colourless_image_stays_so():
    found = transformed(pictures(40, grey=True), torch.arange(40), Strong(pixmix=PixMix(pictures=20)))
    assert (found == found[:, :1]).all()


def test_it_is_drawn_from_an_images_own_number():
    """So neither resuming nor the number of processes changes it."""
    strong, images = Strong(pixmix=PixMix(pictures=20)), pictures()
    whole = transformed(images, torch.arange(12), strong)
    assert torch.equal(whole[5:7], transformed(images[5:7], torch.arange(5, 7), strong))
    assert not torch.equal(whole, transformed(images, torch.arange(12, 24), strong))
    batches = TrainingBatches(ImageSet(images, torch.zeros(12, dtype=torch.int64)), 5, Augment(), strong=strong)
    seen = [torch.cat([batch.images for batch in batches.epoch(0, epoch)]) for epoch in (0, 0, 1)]
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_nothing_of_it_is_on_by_default():
    assert recipe().strong.pixmix is None
    assert not Strong().alone
    assert Strong(pixmix=PixMix()).alone

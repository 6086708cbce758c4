"""Strong augmentation: by hand, the same for any number of processes, and off unless it is asked for."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator

from ood import nets
from ood.config.training import Augment, Overrides, Runtime, Strong, Training
from ood.data import batches
from ood.data.batches import TrainingBatches
from ood.data.sets import ImageSet
from ood.data.strong import Mix, transformed
from ood.progress import Silent
from ood.training.loop import Trainer, _Step
from ood.training.objectives import LabelledInliers, Objective, soft_labels


def images(count=13, side=8, seed=0):
    pixels = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return ImageSet(pixels, torch.arange(count) % 4)


def test_soft_labels_by_hand():
    found = soft_labels(torch.tensor([0, 1]), 4, 0.2, torch.tensor([1, 1]), 0.75)
    assert torch.allclose(found, torch.tensor([[0.65, 0.25, 0.05, 0.05], [0.05, 0.85, 0.05, 0.05]]))


def test_smoothing_is_torchs_and_mixing_the_weighted_sum_of_two_losses():
    logits, one, other = torch.randn(9, 5), torch.randint(0, 5, (9,)), torch.randint(0, 5, (9,))
    expected = F.cross_entropy(logits, one, label_smoothing=0.1)
    assert torch.allclose(F.cross_entropy(logits, soft_labels(one, 5, 0.1)), expected)
    both = 0.3 * F.cross_entropy(logits, one) + 0.7 * F.cross_entropy(logits, other)
    assert torch.allclose(F.cross_entropy(logits, soft_labels(one, 5, 0.0, other, 0.3)), both)


def test_dreamed_inliers_take_soft_labels_beside_them():
    logits, dreamed, labels = torch.randn(6, 4), torch.randn(5, 4), torch.arange(6) % 4
    hard, _ = LabelledInliers()(logits, labels, dreamed, torch.arange(5) % 4)
    soft, _ = LabelledInliers()(logits, soft_labels(labels, 4, 0.0), dreamed, torch.arange(5) % 4)
    assert torch.allclose(hard, soft)
    assert torch.allclose(hard, F.cross_entropy(torch.cat([logits, dreamed]), torch.cat([labels, torch.arange(5) % 4])))


def test_mixup_blends_and_cutmix_cuts_to_the_pixel():
    one, other = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
    blended, share = Mix(0.25).of(one, other)
    assert share == 0.25
    assert torch.equal(blended, torch.full_like(one, 0.75))
    cut, share = Mix(0.9, (0.25, 0.5, 0.0, 1.0)).of(one, other)
    assert torch.equal(cut[:, :, 2:4], other[:, :, 2:4])
    assert cut.sum() == 2 * 3 * 16
    assert share == 1 - 16 / 64, "what was cut, not what was drawn"


@pytest.mark.parametrize(
    ("strong", "boxes"), [({"mixup": 0.8}, {False}), ({"cutmix": 1.0}, {True}), ({"mixup": 0.8, "cutmix": 1.0}, {True, False})]
)
def test_draws_of_a_mix(strong, boxes):
    """alpha = 1: shares are uniform. A box is centred anywhere and as large as its share says, but for the image's edge."""
    generator = torch.Generator().manual_seed(3)
    drawn = [Mix.drawn(Strong(**strong), generator) for _ in range(2000)]
    assert {mix.box is not None for mix in drawn} == boxes
    shares = np.array([mix.share for mix in drawn if mix.box is not None])
    if len(shares):
        assert np.abs(np.histogram(shares, 4, (0, 1))[0] / len(shares) - 0.25).max() < 0.06
        assert 0.4 < len(shares) / len(drawn) < 0.6 or len(boxes) == 1
        for mix in drawn:
            if mix.box is not None:
                top, bottom, left, right = mix.box
                assert (bottom - top) * (right - left) <= 1 - mix.share + 1e-9


STRONG = Strong(label_smoothing=0.1, mixup=0.8, cutmix=1.0, mix_until=2, randaugment=9.0, random_erasing=0.25)


def epoch(strong, number=0, seed=0):
    loader = TrainingBatches(images(), 5, Augment(pad=1, flip=True), images(20, seed=1), 4, strong)
    return list(loader.epoch(seed, number))


def test_mixed_images_are_of_the_batch_and_stop_when_told():
    for batch in epoch(Strong(mixup=0.8, mix_until=2)):
        assert batch.mixed_in is not None
        assert 0 <= batch.share <= 1
        assert torch.equal(batch.mixed_in, batch.labels.roll(1))
    plain = [b.images for b in epoch(Strong(), 2)]
    assert all(b.mixed_in is None for b in epoch(STRONG, 2))
    assert all(torch.equal(b.images, p) for b, p in zip(epoch(Strong(label_smoothing=0.1), 2), plain, strict=True)), "only labels change"


def test_outliers_are_turned_and_erased_but_not_mixed():
    everything = {image.float().div(255).numpy().tobytes() for image in images(20, seed=1).images}

    def untouched(strong):
        loader = TrainingBatches(images(), 5, Augment(), images(20, seed=1), 4, strong)
        rows = [row.numpy().tobytes() for b in loader.epoch(0, 0) for row in b.images[len(b.labels) :]]
        assert len(rows) == 12
        return sum(row in everything for row in rows)

    assert untouched(Strong()) == untouched(Strong(mixup=0.8)) == untouched(Strong(cutmix=1.0)) == 12
    assert 0 < untouched(Strong(randaugment=9.0)) < 12
    assert untouched(Strong(random_erasing=1.0)) == 0


def test_an_epoch_repeats_exactly():
    first, again, other = epoch(STRONG), epoch(STRONG), epoch(STRONG, 1)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a.images, b.images) for a, b in zip(first, other, strict=True))


def test_two_processes_see_what_one_would(monkeypatch):
    """Every other row is another rank's, and so is every neighbour."""
    whole = epoch(STRONG)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(batches, "rows_of", lambda n, rank=rank: torch.arange(rank, n, 2))
        parts.append(epoch(STRONG))

    def together(left, right):
        whole = torch.empty(len(left) + len(right), *left.shape[1:], dtype=left.dtype)
        whole[0::2], whole[1::2] = left, right
        return whole

    for one, left, right in zip(whole, *parts, strict=True):
        count, here, there = one.global_inliers, len(left.labels), len(right.labels)
        assert torch.equal(together(left.images[:here], right.images[:there]), one.images[:count])
        assert torch.equal(together(left.images[here:], right.images[there:]), one.images[count:])
        assert torch.equal(together(left.mixed_in, right.mixed_in), one.mixed_in)
        assert left.share == right.share == one.share


def test_erasing_leaves_the_rest_and_its_noise_is_around_grey():
    """Erased with certainty: 2 to 33 % of an image, a rectangle; of an image without colours one channel of noise."""
    grey = torch.zeros(200, 3, 32, 32, dtype=torch.uint8)
    found = transformed(grey, torch.arange(200), Strong(random_erasing=1.0))
    shares = found.ne(0).any(1).float().mean((1, 2))
    assert 0.01 < shares.min() < 0.08
    assert 0.25 < shares.max() < 0.35
    for image in found[:20]:
        rows, columns = image.amax(0).amax(1).nonzero(), image.amax(0).amax(0).nonzero()
        part = image[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].float()
        assert abs(part.mean() - 127) < 40
        assert torch.equal(part[0], part[2])
    coloured = transformed(images(20, 32).images, torch.arange(20), Strong(random_erasing=1.0))
    assert (coloured != images(20, 32).images).flatten(1).float().mean(1).max() < 0.4
    assert transformed(grey, torch.arange(200), Strong(random_erasing=0.25)).flatten(1).any(1).float().mean() == pytest.approx(
        0.25, abs=0.1
    )


def test_randaugment_grows_with_its_magnitude_and_does_nothing_a_quarter_of_the_time():
    """Two operations, each applied half of the time: untouched in a quarter of the cases, and where an operation changes nothing."""
    smooth = torch.linspace(20, 230, 32).to(torch.uint8).expand(400, 3, 32, 32).contiguous()
    change = {}
    for magnitude in (1.0, 9.0):
        found = transformed(smooth, torch.arange(400), Strong(randaugment=magnitude))
        change[magnitude] = (found.float() - smooth.float()).abs().mean()
        assert found.dtype == torch.uint8
    untouched = (found == smooth).flatten(1).all(1).float().mean()
    assert 0.2 < untouched < 0.5
    assert change[9.0] > 1.5 * change[1.0]


def test_training_learns_the_soft_labels(tmp_path):
    """Smoothed by a half, no prediction has a cross-entropy below the labels' own entropy; hard labels go far below it."""
    losses = []
    for strong in (Strong(), Strong(label_smoothing=0.5)):
        recipe = Training(epochs=30, batch_size=13, lr=0.05, weight_decay=0.0, strong=strong)
        torch.manual_seed(0)
        net = nets.build("wrn_10_1", num_classes=4, size=8)
        trainer = Trainer(Accelerator(cpu=True), Runtime(device="cpu"), recipe, tmp_path / str(strong.label_smoothing), Silent())
        losses.append(trainer.fit(net, Objective(), TrainingBatches(images(), 13, Augment(), strong=strong), 0)[-1]["ce"])
    floor = -(0.625 * np.log(0.625) + 3 * 0.125 * np.log(0.125))
    assert losses[0] < 0.3
    assert floor < losses[1] < floor + 0.2


def test_the_callers_randomness_is_left_alone(monkeypatch):
    """A GPU's too, where dropout draws for all processes alike."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda _seed: pytest.fail("that is the GPU's generator"))
    transformed(images().images, torch.arange(13), STRONG)
    assert torch.equal(torch.rand(3), expected)


def test_label_smoothing_takes_in_dreamed_inliers():
    torch.manual_seed(0)
    net = nets.build("wrn_10_1", num_classes=4, size=8).eval()
    loader = TrainingBatches(images(8), 8, Augment(), images(6, seed=1), 6)
    batch = next(iter(loader.epoch(0, 0)))
    loss, _ = _Step(net, LabelledInliers(), 0.3)(batch)
    labels = torch.cat([batch.labels, batch.extra_labels])
    assert torch.allclose(loss, F.cross_entropy(net(batch.images), labels, label_smoothing=0.3))


def test_a_run_may_be_strong_by_itself():
    base = Training(epochs=3, batch_size=4, lr=0.1)
    run = Overrides(strong={"mixup": 0.8})
    assert base.strong == Strong()
    assert run.over(base).strong == Strong(mixup=0.8)
    assert Overrides(strong={}).over(run.over(base)).strong == Strong(), "switched off"
    assert Overrides().over(run.over(base)).strong == Strong(mixup=0.8)

"""POEM: the posterior, its draws, what an epoch trains with, and what a stopped run remembers."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import Stop, StopAfter
from sklearn.linear_model import Ridge
from test_training import images, net, recipe
from torch import nn

from ood.config.methods import Mine, OERun
from ood.config.training import Augment, Runtime
from ood.data.batches import TrainingBatches
from ood.data.sets import ImageSet
from ood.errors import InputError
from ood.nets import Classifier
from ood.progress import Silent
from ood.training.loop import Trainer
from ood.training.mining import Miner, draw, posterior
from ood.training.objectives import EnergyMargin


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_posterior_is_that_of_ridge_regression():
    z = torch.randn(60, 4, generator=generator(), dtype=torch.float64)
    y, counts = torch.randn(60, generator=generator(1), dtype=torch.float64), torch.arange(60) % 3 + 1.0
    mean, factor = posterior(z, y, counts, sigma=20.0, noise=0.5)
    known = Ridge(alpha=0.5 / 20.0, fit_intercept=False).fit(z.numpy(), y.numpy(), sample_weight=counts.numpy())
    assert np.allclose(mean.numpy(), known.coef_)
    repeated = z.repeat_interleave(counts.long(), dim=0)
    assert torch.allclose(factor @ factor.T, repeated.T @ repeated / 0.5 + torch.eye(4) / 20.0)
    # One weight, by hand: two looks at z = 1, y = 2, noise 0.5, prior variance 1: precision 2 / 0.5 + 1 = 5, mean (2 x 2 / 0.5) / 5.
    mean, factor = posterior(torch.ones(1, 1), torch.tensor([2.0]), torch.tensor([2.0]), sigma=1.0, noise=0.5)
    assert (float(mean), float(factor) ** 2) == pytest.approx((1.6, 5.0))


def test_what_has_no_posterior_is_an_error_with_a_remedy():
    z, one = torch.ones(3, 2), torch.ones(3)
    with pytest.raises(InputError, match=r"sigma 1e\+30 and noise 1e-06 are too far apart"):
        posterior(z, one, one, sigma=1e30, noise=1e-6)
    with pytest.raises(InputError, match=r"not finite.* learning rate"):
        posterior(z * torch.nan, one, one, sigma=1.0, noise=0.5)


def test_draws_have_the_posteriors_mean_and_covariance():
    root = torch.randn(3, 3, generator=generator(), dtype=torch.float64)
    mean, precision = torch.tensor([1.0, -2.0, 3.0]).double(), root @ root.T + torch.eye(3)
    factor = torch.linalg.cholesky(precision)
    drawn = torch.stack([draw(mean, factor, 4.0, generator(i)) for i in range(4000)])
    assert torch.allclose(drawn.mean(0), mean, atol=0.1)
    assert torch.allclose(drawn.T.cov(), 4 * precision.inverse(), atol=0.25)
    assert torch.equal(draw(mean, factor, 0.0, generator()), mean)


class Shades(nn.Module):
    """Two features: mean brightness, and 1, without which whatever is dark would lie near every boundary through 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shade = x.mean((1, 2, 3))
        return torch.stack([shade, torch.ones_like(shade)], dim=1)


def shades(values: list[float]) -> ImageSet:
    pictures = torch.tensor([round(255 * value) for value in values], dtype=torch.uint8)
    return ImageSet(pictures[:, None, None, None].expand(-1, 3, 8, 8).contiguous(), torch.full((len(values),), -1))


def miner(**changes) -> Miner:
    return Miner(Mine(**({"share": 0.2, "epochs": 2, "spread": 0.0} | changes)), Silent())


def batches(outliers: ImageSet) -> TrainingBatches:
    known = shades([0.9 + 0.002 * i for i in range(40)])
    return TrainingBatches(ImageSet(known.images, torch.zeros(40, dtype=torch.int64)), 8, Augment(), outliers, 8)


def test_what_is_chosen_is_nearest_the_boundary_and_the_buffer_turns_over():
    """ID is bright, dark outliers were chosen: the boundary lies between, and so does what is chosen next (defect P11: it must move on)."""
    outliers, plain = shades([0.02 * i for i in range(45)]), Classifier(Shades(), 2, 2, size=8, mean=[0.0] * 3, std=[1.0] * 3)
    mining, seen = miner(), batches(outliers)
    mining.chosen.append(torch.arange(9))
    for epoch in range(1, 5):
        before = list(mining.chosen)
        features = plain.features(outliers.images / 255.0).double()
        known = torch.cat([features[index] for index in before])
        inside = plain.features(seen.inliers.images / 255.0).double()
        chosen = mining.batches(plain, seen, 0, epoch, 1)
        assert len(chosen.outliers) == 9
        assert torch.equal(chosen.outliers.images, outliers.images[mining.chosen[-1]])
        assert len(mining.chosen) <= 2
        # Targets are symmetric and both sides count alike, so ridge regression on all of ID finds nearly the same boundary.
        targets = torch.cat([torch.full((len(known),), 3.9), torch.full((40,), -3.9)])
        even = torch.cat([torch.ones(len(known)), torch.full((40,), len(known) / 40)])
        mean, _ = posterior(torch.cat([known, inside]), targets, even, 20.0, 0.5)
        expected = (features @ mean).abs().argsort()[:9]
        assert len(set(expected.tolist()) & set(mining.chosen[-1].tolist())) >= 7
    assert mining.chosen[-1].min() > 20, "dark ones are sure by now"
    assert not set(mining.chosen[0].tolist()) & set(range(9)), "and are no longer in the buffer"
    assert seen.outliers is outliers, "the run's own batches keep all"


def test_a_pool_is_drawn_anew_and_the_first_choice_is_by_the_prior():
    outliers, plain = shades([0.02 * i for i in range(45)]), Classifier(Shades(), 2, 2, size=8, mean=[0.0] * 3, std=[1.0] * 3)
    first, again, other = miner(pool=20), miner(pool=20), miner(pool=20)
    for one, seed in ((first, 0), (again, 0), (other, 1)):
        one.batches(plain, batches(outliers), seed, 0, 1)
    assert torch.equal(first.chosen[-1], again.chosen[-1])
    assert not torch.equal(first.chosen[-1], other.chosen[-1])
    assert len(first.chosen[-1]) == 4
    first.batches(plain, batches(outliers), 0, 1, 1)  # most of what was chosen is not in this epoch's pool
    assert len(first.chosen) == 2


def test_what_was_chosen_counts_though_it_is_in_no_pool():
    """Without dark outliers to learn from, the darkest would be nearest to everything."""
    outliers, plain = shades([0.02 * i for i in range(45)]), Classifier(Shades(), 2, 2, size=8, mean=[0.0] * 3, std=[1.0] * 3)
    for seed in range(5):
        mining = miner(pool=12, share=0.25)
        mining.chosen.append(torch.arange(3))
        mining.batches(plain, batches(outliers), seed, 1, 1)
        assert mining.chosen[-1].min() > 9


class Counting(Shades):
    """Counts the images that it looks at."""

    seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        return super().forward(x)


@pytest.mark.parametrize(("keys", "looks"), [({}, 45 + 18), ({"known": 5}, 45 + 5)])
def test_an_outlier_is_looked_at_once_an_epoch_and_as_many_of_id_as_were_chosen(keys, looks):
    outliers, backbone = shades([0.02 * i for i in range(45)]), Counting()
    mining = miner(**keys)
    mining.chosen.extend([torch.arange(9), torch.arange(9, 18)])
    mining.batches(Classifier(backbone, 2, 2, size=8, mean=[0.0] * 3, std=[1.0] * 3), batches(outliers), 0, 2, 1)
    assert backbone.seen == looks
    assert mining.chosen[-1].min() > 15, "the boundary is where it is by all"


def train(folder, progress=None):
    mining = Miner(Mine(share=0.3, epochs=2), progress or Silent())
    trainer = Trainer(Accelerator(cpu=True), Runtime(device="cpu", threads=1), recipe(epochs=4), folder, progress or Silent(), miner=mining)
    torch.set_num_threads(1)
    model = net()
    history = trainer.fit(model, EnergyMargin(0.1, -9.0, -4.0), TrainingBatches(images(), 8, Augment(pad=1), images(30, 1), 12), 0)
    return {k: v.clone() for k, v in model.state_dict().items()}, history, list(mining.chosen)


@pytest.mark.parametrize("steps", [2, 7, 12, 18])
def test_a_stopped_run_goes_on_with_what_it_had_chosen(tmp_path, steps):
    whole, history, chosen = train(tmp_path / "whole")
    with pytest.raises(Stop):
        train(tmp_path / "stopped", StopAfter(steps))
    resumed, resumed_history, resumed_chosen = train(tmp_path / "stopped")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert history == resumed_history
    assert [row["outliers"] for row in history] == [9.0] * 4
    assert all(torch.equal(a, b) for a, b in zip(chosen, resumed_chosen, strict=True))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"objective": "none", "mine": {}}, "mine chooses outliers"),
        ({"objective": "energy", "m_in": -9.0, "m_out": -4.0, "perturb": {}}, "objective is 'energy'. Set it to uniform"),
    ],
)
def test_where_there_is_nothing_to_choose_or_to_teach_it_is_refused(keys, words):
    with pytest.raises(ValueError, match=words):
        OERun.model_validate({"init": "ce", "constraint": "none", "outliers": "prepared/auxiliary"} | keys)

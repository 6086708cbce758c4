"""The loss constraint and atypical samples: statements 3, 4, 5 and 19 of the UM sheet."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from ood import nets
from ood.config.methods import FineTune
from ood.progress import Silent
from ood.unmask import atypical_samples, estimate_constraint
from ood.unmask.atypical import Atypical
from ood.unmask.constraint import Constraint, guessing
from ood.unmask.estimates import estimated, figures_of, told
from ood.unmask.levels import levels


def memorise(images, labels):
    """A net, in training mode, after 40 steps on all the images at once."""
    net = nets.build("wrn_10_1", num_classes=4, size=8)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
    return net


@pytest.fixture(scope="module")
def trained_net():
    """A net that has memorised 96 separable images, and the images."""
    torch.manual_seed(0)
    labels = torch.arange(96) % 4
    images = (torch.rand(4, 3, 8, 8)[labels] + 0.25 * torch.rand(96, 3, 8, 8)).clamp(0, 1)
    net = memorise(images, labels)
    return net.train(), images, labels


def batches(images, labels, size):
    return list(zip(images.split(size), labels.split(size), strict=True))


def test_keeping_everything_gives_the_dense_loss(trained_net):
    net, images, labels = trained_net
    found = estimate_constraint(net, batches(images, labels, 32), 1.0, 2, seed=0)
    net.eval()
    dense = F.cross_entropy(net(images).double(), labels).item()
    net.train()
    assert found.values == pytest.approx([dense, dense], abs=1e-6)
    assert found.std == pytest.approx(0)


def test_seeds_differ_and_batch_size_does_not_matter(trained_net):
    net, images, labels = trained_net
    whole = estimate_constraint(net, batches(images, labels, 96), 0.8, 3, seed=0)
    cut = estimate_constraint(net, batches(images, labels, 7), 0.8, 3, seed=0)
    other = estimate_constraint(net, batches(images, labels, 96), 0.8, 3, seed=1)
    assert cut.values == pytest.approx(whole.values, rel=1e-4)
    assert other.values != pytest.approx(whole.values, rel=1e-4)
    assert whole.mean == pytest.approx(sum(whole.values) / 3)


def test_the_net_is_left_as_it_was(trained_net):
    net, images, labels = trained_net
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    assert net.training
    estimate_constraint(net, batches(images, labels, 32), 0.5, 2, seed=0)
    atypical_samples(net, batches(images, labels, 32), 0.5, 2, seed=0)
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())
    assert all(module.training for module in net.modules())


def test_constraint_grows_as_fewer_weights_stay(trained_net):
    net, images, labels = trained_net
    means = [estimate_constraint(net, batches(images, labels, 96), keep, 8, seed=0).mean for keep in (1.0, 0.95, 0.8, 0.5)]
    assert means == sorted(means)
    assert means[-1] > 2 * means[0]


def test_memorised_exceptions_are_the_atypical_samples():
    """A few images with a wrong label must be memorised; masks forget them first, and their margins are lower."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(128) % 4
    images = (torch.rand(4, 3, 8, 8, generator=generator)[labels] + 0.5 * torch.rand(128, 3, 8, 8, generator=generator)) / 1.5
    wrong = torch.zeros(128, dtype=torch.bool)
    wrong[:10] = True
    labels = torch.where(wrong, (labels + 1) % 4, labels)
    torch.manual_seed(0)
    net = memorise(images, labels)
    net.eval()
    assert (net(images).argmax(1) == labels).all(), "the exceptions must be memorised first"
    gentle = atypical_samples(net, batches(images, labels, 128), 0.95, 12, seed=0)
    assert wrong[gentle.order()[:10]].sum() >= 7  # chance would find one
    found = atypical_samples(net, batches(images, labels, 128), 0.9, 12, seed=0)
    flipped = found.flip_rate > 0
    assert 0 < flipped.sum() < 64
    assert found.margin[flipped].median() < found.margin[~flipped].median()
    assert found.loss[flipped].mean() > found.loss[~flipped].mean()


def test_ranking(trained_net):
    net, images, labels = trained_net
    found = atypical_samples(net, batches(images, labels, 96), 0.7, 4, seed=0)
    rows = found.table([f"image/{i}" for i in range(96)], labels)
    assert [row["rank"] for row in rows] == list(range(1, 97))
    assert sorted(row["image"] for row in rows) == sorted(f"image/{i}" for i in range(96))
    keys = [(-row["flip_rate"], -row["masked_loss"]) for row in rows]
    assert keys == sorted(keys)


def test_guessing_knows_the_classes_shares():
    assert guessing(torch.arange(400) % 4) == pytest.approx(math.log(4))
    assert guessing(torch.tensor([0] * 9 + [5])) == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))


def test_an_estimate_is_called_destroyed_from_the_loss_of_guessing_on():
    labels = torch.arange(100) % 2

    def seen(b: float, dense_loss: float) -> dict:
        every = torch.zeros(100)
        atypical = Atypical(every + dense_loss, every, every, every, labels)
        return figures_of(estimated(Constraint(b, 0.1, [b]), atypical, None, labels, None, 0.05))

    figures = [seen(b, 0.01) for b in (0.69, 0.70)]  # ln 2 = 0.693
    assert [found["destroyed"] for found in figures] == [0, 1]
    assert [found["memorised"] for found in figures] == [1, 1]
    assert len(told(figures[0], "ce", 0.05)) == 1
    both = {key: sum(found[key] for found in figures) / 2 for key in figures[0]}
    assert "in 50% of the seeds no better than guessing (0.6931): the masks have destroyed ce" in told(both, "ce", 0.05)[1]
    loose = seen(0.3, 0.06)
    assert "has not memorised its training set: loss 0.0600" in told(loose, "ce", 0.05)[1]


def test_masks_that_destroy_a_network_are_told_of(tmp_path, monkeypatch):
    """Held at the loss of guessing, a network forgets all it knows; a threshold by hand is the way out."""
    monkeypatch.chdir(tmp_path)
    heard: list[str] = []
    listener = Silent()
    monkeypatch.setattr(listener, "note", heard.append)
    run = FineTune(init="ce", constraint="um")
    for seed, b in enumerate((1.38, 1.39)):  # ln 4 = 1.386
        path = tmp_path / f"data/mask/um/{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        constraint = {"mean": b, "std": 0.1, "values": [b, b]}
        known = {"contradicted": None, "first": None, "mislabelled": None, "found": {}}
        path.write_text(json.dumps({"constraint": constraint, "guessing": math.log(4), "dense_loss": 0.01, "memorised": True} | known))
    assert levels(run, None, [0], listener) == {0: 1.38}
    assert levels(run, 0.2, [0, 1], listener) == {0: 0.2, 1: 0.2}
    assert not heard
    assert levels(run, None, [0, 1], listener) == {0: 1.38, 1: 1.39}
    assert len(heard) == 1
    for words in ("seed 1 is held at 1.39 nats", "guessing (1.39)", "mask.runs.um.keep", "layers: head"):
        assert words in heard[0]

"""Selective unmasking: what kept epochs tell of images, who is chosen by it, and that these alone are left out or held."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Workspace

from ood.config.methods import Forget, UMRun
from ood.config.training import Augment
from ood.data.batches import TrainingBatches
from ood.data.sets import ImageSet
from ood.errors import InputError
from ood.files import seal
from ood.nets.store import MODELS
from ood.training.objectives import SelectiveConstraint
from ood.unmask import rankings
from ood.unmask.epochs import over_epochs
from ood.unmask.levels import share

LABELS = torch.tensor([0, 1, 0])
LOGITS = [  # of three looks at three images: right from the start; learned late; right, forgotten, right again
    torch.tensor([[2.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),
    torch.tensor([[4.0, 0.0], [0.5, 0.0], [-1.0, 0.0]]),
    torch.tensor([[6.0, 0.0], [-3.0, 0.0], [3.0, 0.0]]),
]


class Remembered(torch.nn.Module):
    """Answers training images, told by their number, with the logits of a look, and validation images with others."""

    def __init__(self, look: int, held_out: torch.Tensor):
        super().__init__()
        self.look, self.held_out = look, held_out

    def forward(self, images):
        return LOGITS[self.look][images.long()] if images.max() < 3 else self.held_out[images.long() - 3]


def looked(held_out):
    """Three looks; held_out: logits (1, 2) of each on one validation image of class 0."""
    nets = [Remembered(look, torch.tensor([logits])) for look, logits in enumerate(held_out)]
    return over_epochs(nets, [(torch.arange(3.0), LABELS)], [(torch.tensor([3.0]), torch.tensor([0]))], 0.9, 0)


def test_over_epochs_by_hand():
    found = looked([[-1.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    probabilities = torch.stack([logits.double().softmax(1) for logits in LOGITS])
    assert found.first == 2, "the mean of two looks is right on validation, that of one is not, and a third adds nothing"
    own = probabilities[:2].mean(0)[torch.arange(3), LABELS]
    assert torch.allclose(found.early_doubt, 1 - own)
    assert found.likely.tolist() == [0, 0, 0]
    assert found.contradicted(LABELS) == pytest.approx(1 / 3)
    assert torch.allclose(found.aum, torch.tensor([4.0, 0.5, 1.0]))
    assert found.forgetting.tolist() == [0, 0, 1]
    losses = torch.stack([F.cross_entropy(logits, LABELS, reduction="none") for logits in LOGITS])
    assert torch.allclose(found.loss_over_epochs, losses.mean(0))
    assert set(found.columns()) == {"early_doubt", "aum", "forgetting", "loss_over_epochs", "masked_loss_over_epochs"}


def test_an_image_that_was_never_right_is_forgotten_most_often():
    found = looked([[1.0, 0.0]] * 3)
    assert found.first == 1
    never = over_epochs(
        [Remembered(0, torch.tensor([[1.0, 0.0]]))], [(torch.arange(3.0), 1 - LABELS)], [(torch.tensor([3.0]), torch.tensor([0]))], 0.9, 0
    )
    assert never.forgetting.tolist() == [1, 0, 1]


def test_how_well_a_ranking_finds_what_is_wrong():
    wrong = np.array([True, False, True, False, False])
    values = torch.tensor([9.0, 8.0, 7.0, 1.0, 0.0])
    found = rankings.found({"loss": values, "aum": -values}, wrong)
    assert found["loss"] == found["aum"] == {"auroc": pytest.approx(5 / 6), "precision": 0.5}, "typical images have a large margin"
    assert rankings.found({"loss": values}, np.zeros(5, bool)) == {}, "of nothing nothing can be found"


@pytest.fixture
def ranked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/mask/um"
    folder.mkdir(parents=True)
    rows = ["rank,image,label,likely,loss,masked_loss,flip_rate,aum"]
    rows += [f"{i},x/{i},0,0,{i},{-i},0.5,{-i}" for i in (3, 0, 4, 1, 2)]
    (folder / "atypical-0.csv").write_text("\n".join(rows) + "\n")
    known = {"constraint": {"mean": 0.1, "std": 0.0, "values": [0.1]}, "guessing": 1.0, "dense_loss": 0.0, "memorised": True}
    known |= {"contradicted": 0.4, "first": 3, "mislabelled": None, "found": {}}
    (folder / "0.json").write_text(json.dumps(known))
    return [f"x/{i}" for i in range(5)]


def test_who_is_chosen(ranked):
    def numbers(by: str, part: float = 0.4, seed: int = 0) -> list[int]:
        return rankings.chosen(Forget(by=by), part, "um", seed, ranked).tolist()

    assert numbers("loss") == [3, 4]
    assert numbers("masked_loss") == [0, 1]
    assert numbers("aum") == [3, 4], "the smallest margins"
    assert numbers("loss", 0.0) == []
    assert numbers("flip_rate", 0.6) == [0, 1, 2], "of equal ones the first"
    draws = {tuple(numbers("random", seed=seed)) for seed in range(20)}
    assert len(draws) > 4
    assert numbers("random") == numbers("random")
    with pytest.raises(InputError, match=r"no ranking 'early_doubt'. Set mask.runs.um.epochs"):
        numbers("early_doubt")
    with pytest.raises(InputError, match="every training image would be forgotten"):
        numbers("loss", 1.0)
    with pytest.raises(InputError, match="ranks other images"):
        rankings.chosen(Forget(by="loss"), 0.4, "um", 0, ranked[:-1])


def test_the_share_is_ones_own_or_what_the_first_epochs_contradict(ranked):
    run = UMRun(init="ce", constraint="um", forget=Forget(by="loss", share=0.25))
    assert share(run.forget, "um", 0) == 0.25
    assert share(Forget(by="loss"), "um", 0) == 0.4
    assert not run.constrained, "who is left out is held at no level"
    assert UMRun(init="ce", constraint="um", forget=Forget(by="loss", how="flood")).constrained
    assert UMRun(init="ce", constraint="um").constrained


def test_the_selective_constraint_holds_the_marked_alone():
    logits = torch.tensor([[3.0, 0.0], [0.2, 0.0], [3.0, 0.0], [0.2, 0.0]], requires_grad=True)
    labels, marked, b = torch.zeros(4, dtype=torch.long), torch.tensor([True, True, False, False]), 0.3
    loss, terms = SelectiveConstraint(b)(logits, labels, None, None, marked)
    low, high = (math.log(1 + math.exp(-z)) for z in (3.0, 0.2))
    assert float(loss.detach()) == pytest.approx((2 * b - low + high + low + high) / 4, rel=1e-6)
    assert float(terms["ce"]) == pytest.approx((low + high) / 2, rel=1e-6)
    loss.backward()
    signs = logits.grad[:, 0].sign().tolist()
    assert signs == [1, -1, -1, -1], "below b, and marked, its loss rises; every other's falls"


def images(count: int) -> ImageSet:
    return ImageSet(torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 3, 8, 8).contiguous(), torch.arange(count))


def seen(batches: TrainingBatches, epoch: int = 0) -> dict[int, bool | None]:
    """Image -> whether it is marked, of all that an epoch shows."""
    found: dict[int, bool | None] = {}
    for batch in batches.epoch(0, epoch):
        numbers = (batch.images[: len(batch.labels), 0, 0, 0] * 255).round().int().tolist()
        assert numbers == batch.labels.tolist()
        found |= dict(zip(numbers, batch.marked.tolist() if batch.marked is not None else [None] * len(numbers), strict=True))
    return found


def test_batches_without_some_images_and_with_some_marked():
    whole = TrainingBatches(images(11), 4, Augment())
    assert seen(whole) == dict.fromkeys(range(11))
    left = whole.without(torch.tensor([2, 7]))
    assert sorted(seen(left)) == [0, 1, 3, 4, 5, 6, 8, 9, 10]
    marked = whole.marking(torch.tensor([2, 7]))
    for epoch in (0, 1):
        assert seen(marked, epoch) == {i: i in (2, 7) for i in range(11)}
    assert seen(marked.without(torch.tensor([0, 2]))) == {i: i == 7 for i in range(11) if i not in (0, 2)}


def test_the_stage_leaves_out_or_holds_whom_it_was_told_to(trained: Workspace, tmp_path, monkeypatch):
    workspace = trained.copy(tmp_path)
    forget = {"by": "early_doubt", "share": 0.3}
    runs = {name: {"init": "ce", "constraint": "um", "epochs": 1} for name in ("left-out", "held", "nobody", "plain")}
    runs["left-out"]["forget"], runs["held"]["forget"] = forget, forget | {"how": "flood"}
    runs["nobody"]["forget"], runs["plain"]["constraint"] = {"by": "loss", "share": 0.0}, "none"
    workspace.set({"um.runs": runs, "seeds": [0], "um.threshold": 5.0})
    said = {name: workspace.stage(f"um {name}").stdout for name in runs}
    count = len(np.load(workspace.path / "data/prepared/id/train.labels.npy"))
    assert f"{round(0.3 * count)} of {count} training images are left out (by early doubt)" in said["left-out"]
    assert f"{round(0.3 * count)} of {count} training images are held at b" in said["held"]
    nobody, plain = (workspace.hashes(str(MODELS / name)) for name in ("nobody", "plain"))
    same = {path.replace("nobody", "plain"): value for path, value in nobody.items() if path.endswith("model.safetensors")}
    assert same.items() <= plain.items(), "to forget nobody is the control, to the bit"
    monkeypatch.chdir(workspace.path)
    folder, weights = workspace.path / "data/prepared/id", "data/models/{}/0/model.safetensors"
    gone = rankings.chosen(Forget(**forget), 0.3, "um", 0, json.loads((folder / "train.items.json").read_text())).numpy()
    for name in ("train.npy", "train.labels.npy"):
        np.save(folder / name, np.delete(np.load(folder / name), gone, axis=0))
    seal(folder)
    left_out = workspace.path.joinpath(weights.format("left-out")).read_bytes()
    workspace.stage("um plain")
    assert workspace.path.joinpath(weights.format("plain")).read_bytes() == left_out, "as if they had never been there, to the bit"
    (row,) = (workspace.path / "metrics/training/held.csv").read_text().splitlines()[1:]
    held = dict(
        zip((workspace.path / "metrics/training/held.csv").read_text().splitlines()[0].split(","), map(float, row.split(",")), strict=True)
    )
    assert 1 < held["loss"] - held["ce"] < 2 * 0.3 * 5, "three in ten, far below 5 nats, are driven up, and nobody else"

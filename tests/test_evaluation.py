"""From cached tensors to figures: which tensor every score sees, which side is OOD, what may be picked."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from ood.config.evaluation import Scores
from ood.config.training import LogitScore
from ood.data.sets import ImageSet
from ood.detection import detectors
from ood.detection.scores import Head
from ood.errors import InputError
from ood.evaluation import features, metrics, tracing
from ood.evaluation.features import Cached, training_part
from ood.evaluation.figures import SeedResult, evaluate_seed
from ood.evaluation.held_out import HeldOut, trained_head
from ood.evaluation.models import picked_score
from ood.evaluation.scoring import score_all
from ood.machine import at_once

CLASSES, DIMENSIONS = 4, 24


def cached(normalize: bool, scale: float = 1.0) -> Cached:
    """A trained model's tensors: clusters for ID, for OOD short features that lie between them. scale: of every raw feature."""
    generator = torch.Generator().manual_seed(0)
    centres = F.normalize(torch.randn(CLASSES, DIMENSIONS, generator=generator).relu(), dim=1) * 8
    head = Head(F.normalize(centres, dim=1) * (12 if normalize else 1), torch.zeros(CLASSES), normalize)
    sets = {}
    for name, count in (("id/train", 200), ("id/val", 80), ("id/test", 80), ("validation/v", 60), ("near/n", 60), ("far/f", 60)):
        labels = torch.arange(count) % CLASSES
        noise = torch.rand(count, DIMENSIONS, generator=generator)
        features = centres[labels] + noise if name.startswith("id") else 2.5 * noise
        sets[name] = {"features": scale * features, "logits": head.logits(head.input(features)), "labels": labels}
    return Cached(sets, head)


SETTING = Scores(
    energy_temperature=1.0, knn_k=5, vim_dim=8, react_quantile=0.95, ash_percentile=0.5, scale_percentile=0.5, dice_sparsity=0.5,
    gen_gamma=0.1, gen_top=100, nnguide_k=5,
)  # fmt: skip


@pytest.mark.parametrize("normalize", [False, True])
def test_every_score_calls_these_outliers_ood(normalize):
    model = cached(normalize)
    table = score_all(model, SETTING)
    result = evaluate_seed(model, table, ["val", "test"], "closest")
    # Scores on directions alone (or on activations' shape) have less to see here, but none may point the wrong way.
    worst = {score: min(grid[name]["auroc"] for name in grid) for score, grid in result.grid.items()}
    assert {score: value for score, value in worst.items() if value < 0.8} == {}
    assert result.id["test"]["accuracy"] == 1


def test_on_a_normalising_net_only_the_norm_sees_how_long_features_are():
    """Promise 3: head-based scores use the normalised features, the norm the raw ones."""
    one, longer = (score_all(cached(True, scale), SETTING) for scale in (1.0, 3.0))
    for score in one:
        same = np.allclose(one[score]["near/n"], longer[score]["near/n"], rtol=1e-4, atol=1e-5)
        assert same is (score != "feature_norm"), score
    assert np.allclose(longer["feature_norm"]["near/n"], 3 * one["feature_norm"]["near/n"])


def test_what_trace_may_follow_are_the_same_scores():
    model = cached(False)
    table, tensors = score_all(model, SETTING), model.sets["near/n"]
    for score in get_args(LogitScore):
        assert np.allclose(tracing.score_of(score, tensors), table[score]["near/n"], rtol=1e-6), score


def test_only_the_wanted_scores_are_computed():
    table = score_all(cached(False), SETTING.model_copy(update={"used": ["knn"]}), own=["max_logit", "msp"])
    assert set(table) == {"knn", "max_logit", *detectors.ALWAYS}
    whole = score_all(cached(False), SETTING)
    assert set(whole) == set(detectors.NAMES) - {"odin", "rotation", "confidence", "neglabel"}
    assert np.array_equal(table["knn"]["far/f"], whole["knn"]["far/f"])


def test_sets_are_told_from_id_of_their_own_role():
    model = cached(False)
    table = score_all(model, SETTING)
    table["msp"]["id/val"] = np.full(80, -1.0)
    table["msp"]["id/test"] = np.full(80, 1.0)
    table["msp"]["validation/v"] = table["msp"]["near/n"] = np.zeros(60)
    grid = evaluate_seed(model, table, ["val", "test"], "closest").grid["msp"]
    assert grid["validation/v"]["auroc"] == 1, "larger is OOD, against ID validation"
    assert grid["near/n"]["auroc"] == 0, "against ID test"


def test_what_was_fitted_on_validation_images_is_not_picked_on_them():
    def result(**auroc: float) -> SeedResult:
        even = dict.fromkeys(metrics.KEYS, 0.5)
        return SeedResult(grid={score: {"validation/v": even | {"auroc": value}} for score, value in auroc.items()})

    assert picked_score([result(msp=0.6, klm=0.9, knn=0.7), result(msp=0.9, klm=0.9, knn=0.7)]) == "msp"


def test_errors_on_id_are_found_by_doubt():
    model = cached(False)
    inside = model.sets["id/test"]
    logits = torch.full((80, CLASSES), 0.0)
    logits[torch.arange(80), inside["labels"]] = 9.0
    wrong = torch.arange(5)
    logits[wrong] = 0.0
    logits[wrong, (inside["labels"][wrong] + 1) % CLASSES] = 1.0  # wrong, and hardly sure
    inside["logits"] = logits
    result = evaluate_seed(model, score_all(model, SETTING), ["test"], "closest")
    assert result.errors["msp"]["auroc"] == 1
    assert result.errors["msp"]["count"] == 5
    model.sets["id/test"]["logits"] = torch.eye(CLASSES)[inside["labels"]]
    assert evaluate_seed(model, score_all(model, SETTING), ["test"], "closest").errors == {}


# --- classes held out


def test_a_score_is_picked_for_what_it_does_worse_spoilt_images_or_held_out_classes():
    """Neither makes up for the other."""

    def result(**pair: tuple[float, float | None]) -> SeedResult:
        even = dict.fromkeys(metrics.KEYS, 0.5)
        grid = {score: {f"validation/{i}": even | {"auroc": sets} for i in range(3)} for score, (sets, _) in pair.items()}
        return SeedResult(grid=grid, held_out={score: {"0": held, "2": held} for score, (_, held) in pair.items() if held is not None})

    assert picked_score([result(msp=(0.8, 0.9), knn=(0.99, 0.6))]) == "msp"
    assert picked_score([result(msp=(0.8, 0.9), knn=(0.99, 0.79))]) == "msp", "though its mean is less"
    assert picked_score([result(msp=(0.8, 0.9), knn=(0.99, 0.81))]) == "knn"
    assert picked_score([result(msp=(0.8, 0.9), odin=(0.99, None))]) == "msp", "what can't be had of held-out classes takes no part"
    assert picked_score([result(msp=(0.8, None), odin=(0.99, None))]) == "odin", "without them as ever"
    seeds = [result(msp=(0.95, 0.60), knn=(0.65, 0.65)), result(msp=(0.60, 0.95), knn=(0.65, 0.65))]
    assert picked_score(seeds) == "msp", "the worse of two means over seeds, not the mean of what is worse in each"


def crowded(normalize: bool) -> Cached:
    """Clusters that overlap, of a backbone that hasn't seen them; test and OOD sets hold nothing that anyone may look at."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(CLASSES, DIMENSIONS, generator=generator)
    sets = {}
    for name, count in (("id/train", 120), ("id/val", 60)):
        labels = torch.randint(0, CLASSES, (count,), generator=generator)
        features = centres[labels] + 1.3 * torch.randn(count, DIMENSIONS, generator=generator) + 1
        sets[name] = {"features": features, "logits": torch.zeros(count, CLASSES), "labels": labels}
    for name in ("id/test", "validation/v", "near/n", "far/f"):
        nothing = torch.full((20, DIMENSIONS), torch.nan)
        sets[name] = {"features": nothing, "logits": nothing[:, :CLASSES], "labels": torch.zeros(20, dtype=torch.int64)}
    return Cached(sets, Head(torch.zeros(CLASSES, DIMENSIONS), torch.zeros(CLASSES), normalize), unseen=True)


def by_hand(model: Cached, label: int, score: str) -> float:
    """The AUROC of a score for a held-out class, said in another way: scikit-learn's head, and one comparison for every pair."""
    train, val = model.sets["id/train"], model.sets["id/val"]
    x, y = train["features"], train["labels"]
    seen = (lambda f: F.normalize(f, dim=1)) if model.head.normalize else (lambda f: f)
    known = y != label
    fitted = LogisticRegression(C=1 / (5e-4 * int(known.sum())), max_iter=10_000, tol=1e-8).fit(
        seen(x[known]).double().numpy(), y[known].numpy()
    )

    def value(features: torch.Tensor) -> np.ndarray:
        logits = torch.from_numpy(fitted.decision_function(seen(features).double().numpy()))
        if score == "knn":  # distance to the 5th nearest of the known classes' images, on the unit sphere
            unit = F.normalize(features, dim=1), F.normalize(x[known], dim=1)
            return torch.cdist(*unit).sort(dim=1).values[:, 4].numpy()
        return (-logits.softmax(1).amax(1) if score == "msp" else -logits.logsumexp(1)).numpy()

    inside = value(val["features"][val["labels"] != label])
    outside = value(torch.cat([x[~known], val["features"][val["labels"] == label]]))
    return float((outside[:, None] > inside).mean() + (outside[:, None] == inside).mean() / 2)


@pytest.mark.parametrize("normalize", [False, True])
def test_held_out_figures_are_those_of_heads_that_have_not_seen_the_class(normalize):
    model = crowded(normalize)
    found = HeldOut(CLASSES, SETTING, ["msp"]).of(model)
    assert found["msp"].keys() == {str(label) for label in range(CLASSES)}
    assert "odin" not in found
    for score in ("msp", "energy", "knn"):
        wanted = [by_hand(model, label, score) for label in range(CLASSES)]
        assert 0.5 < min(wanted) < max(wanted) < 0.99, "or any head would do"
        assert [found[score][str(label)] for label in range(CLASSES)] == pytest.approx(wanted, abs=2e-3), score


def test_what_may_be_held_out_and_what_is_gone_through_once():
    model = crowded(False)
    held_out = HeldOut(CLASSES, SETTING, ["msp"])
    found = held_out.of(model)
    assert held_out.of(Cached(dict(model.sets), model.head, unseen=True)) is found
    assert HeldOut(CLASSES, SETTING, ["msp"]).of(Cached(model.sets, model.head)) == {}, "a backbone that may have learned the class"
    for name, kind in itertools.product(("id/train", "id/val"), ("features", "labels")):
        sets = {key: dict(tensors) for key, tensors in model.sets.items()}
        sets[name][kind] = sets[name][kind].roll(1, 0)
        assert held_out.of(Cached(sets, model.head, unseen=True)) is not found, (name, kind)
    assert held_out.of(Cached(model.sets, Head(model.head.weight, model.head.bias, normalize=True), unseen=True)) is not found
    assert HeldOut(2, SETTING, []).of(model)["knn"].keys() == {"0", str(CLASSES - 1)}
    assert HeldOut(0, SETTING, []).of(model) == {}
    many = SETTING.model_copy(update={"knn_k": 120, "nnguide_k": 120})  # all training images, of which a class is gone here
    assert HeldOut(1, many, []).of(model)["knn"]


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_trained_head_is_the_best_there_is(classes, normalize):
    """The gradient of cross-entropy + 5e-4 / 2 |weights|^2 is zero there."""
    train = crowded(normalize).sets["id/train"]
    some = train["labels"] < classes
    features, labels = train["features"][some], train["labels"][some]
    head = trained_head(features, labels, normalize=normalize)
    weight, bias = (part.double().requires_grad_() for part in (head.weight, head.bias))
    seen = (F.normalize(features, dim=1) if normalize else features).double()
    (F.cross_entropy(seen @ weight.T + bias, labels) + 5e-4 / 2 * weight.square().sum()).backward()
    assert weight.grad.abs().max() < 3e-6
    assert bias.grad.abs().max() < 3e-6
    assert head.normalize is normalize


def test_two_classes_leave_nothing_to_hold_out():
    model = crowded(False)
    few = {name: {kind: tensor[tensors["labels"] < 2] for kind, tensor in tensors.items()} for name, tensors in model.sets.items()}
    assert HeldOut(6, SETTING, []).of(Cached(few, Head(model.head.weight[:2], model.head.bias[:2]), unseen=True)) == {}


def test_scores_may_be_fitted_on_a_part_of_the_training_images():
    labels = torch.tensor([0] * 20 + [1] * 4 + [2] * 8)
    images = ImageSet(torch.arange(32, dtype=torch.uint8)[:, None, None, None].expand(32, 3, 4, 4), labels)
    part = training_part(images, 14)
    assert torch.bincount(part.labels).tolist() == [5, 4, 5], "as many of each class as can be"
    assert torch.equal(labels[part.images[:, 0, 0, 0].long()], part.labels)
    assert torch.equal(training_part(images, 14).images, part.images), "the same for every model"
    assert training_part(images, None) is training_part(images, 32) is images
    with pytest.raises(InputError, match=r"features\.train: 2 images of 3 classes"):
        training_part(images, 2)


def test_features_that_memory_cannot_hold_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "FEATURES", tmp_path)
    (tmp_path / "ce").mkdir()
    (tmp_path / "ce/0.safetensors").write_bytes(b"x" * 1000)
    monkeypatch.setattr(features.psutil, "virtual_memory", lambda: SimpleNamespace(available=7999))
    with pytest.raises(InputError, match=r"0\.safetensors: to score these.*features\.train"):
        features.load("ce", 0)
    monkeypatch.setattr(features.psutil, "virtual_memory", lambda: SimpleNamespace(available=8001))
    with pytest.raises(InputError, match="can't be read"):
        features.load("ce", 0)


def test_as_many_models_at_once_as_there_are_workers_and_memory_for(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "FEATURES", tmp_path)
    for model, size in (("ce", 1000), ("oe", 2000)):
        (tmp_path / model).mkdir()
        (tmp_path / model / "0.safetensors").write_bytes(b"x" * size)

    def found(free, workers):
        monkeypatch.setattr(features.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
        return features.side_by_side(["ce", "oe", "not there"], [0], workers)

    one = 8 * 2000 + features.BESIDE  # of the largest
    assert found(10**12, 6) == 6
    assert found(10**12, 1) == 1
    assert found(4 * one, 6) == 3, "and room for one more"
    assert found(100, 6) == 1, "too little even for one: `load` says so"


def test_work_beside_a_failure_ends_at_its_next_step_and_nothing_begins():
    began, ended, looked = [], [], []

    def slow(number, step):
        began.append(number)
        for _ in range(200):
            step()
            time.sleep(0.01)
        ended.append(number)

    def until_it_goes():
        with at_once(2, lambda: looked.append(1)) as (each, step):
            numbers = each(lambda number: slow(number, step) if number else None, range(10))
            next(numbers)  # which, kept, goes on by itself
            raise InputError("dvc went away")

    with pytest.raises(InputError, match="dvc went away"):
        until_it_goes()
    assert set(began) <= {1, 2}
    assert ended == []
    assert looked or not began


def test_what_goes_wrong_in_one_is_raised_and_ends_the_others():
    def work(number, step):
        if number == 0:
            raise ValueError("first")
        for _ in range(500):
            step()
            time.sleep(0.01)

    begin = time.monotonic()
    with pytest.raises(ValueError, match="first"), at_once(2, lambda: None) as (each, step):
        list(each(lambda number: work(number, step), range(8)))
    assert time.monotonic() - begin < 3
    with at_once(3, lambda: None) as (each, _):
        assert list(each(lambda number: number**2, range(9))) == [number**2 for number in range(9)], "in order"


def test_models_that_are_evaluated_at_once_hold_classes_out_once(monkeypatch):
    model, calls = crowded(False), []
    held_out = HeldOut(2, SETTING, ["msp"])
    monkeypatch.setattr(HeldOut, "_without", lambda _, __, label: (calls.append(label), time.sleep(0.05), {"msp": 0.5})[-1])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(held_out.of, [model] * 4))
    assert len(calls) == 2
    assert all(one is found[0] for one in found)


def test_scores_are_the_same_in_several_threads():
    """To the last bit: every thread computes with as many threads of its own as the process was told to."""
    torch.set_num_threads(1)
    models = [cached(False), cached(True), cached(False, 3.0), cached(True, 2.0)]
    alone = [score_all(model, SETTING) for model in models]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda model: score_all(model, SETTING), models))
        assert set(pool.map(lambda _: torch.get_num_threads(), range(8))) == {1}
    for one, other in zip(alone, together, strict=True):
        assert one.keys() == other.keys()
        assert all((one[score][name] == other[score][name]).all() for score in one for name in one[score])

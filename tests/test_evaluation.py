"""From cached tensors to figures: which tensor every score sees, which side is OOD, what may be picked."""

from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ood.config.evaluation import LogitScore, Scores
from ood.detection import detectors
from ood.detection.scores import Head
from ood.errors import InputError
from ood.evaluation import metrics, tracing
from ood.evaluation.features import Cached
from ood.evaluation.figures import SeedResult, evaluate_seed
from ood.evaluation.held_out import HeldOut, trained_head
from ood.evaluation.models import picked_score
from ood.evaluation.scoring import score_all

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
    assert set(whole) == set(detectors.NAMES) - {"odin"}
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


@pytest.mark.parametrize("normalize", [False, True])
def test_a_held_out_class_is_unknown_to_its_head(normalize):
    """The class's images alone are OOD, no head has seen them, and equal features are gone through once."""
    model = cached(normalize)
    found = HeldOut(CLASSES, SETTING, ["msp"]).of(model)
    assert found == {}, "a backbone that was trained on the class says nothing"
    frozen = Cached(model.sets, model.head, unseen=True)
    held_out = HeldOut(CLASSES, SETTING, ["msp"])
    found = held_out.of(frozen)
    assert held_out.of(Cached(dict(model.sets), model.head, unseen=True)) is found
    assert "odin" not in found
    assert found["knn"].keys() == {str(label) for label in range(CLASSES)}
    assert min(found["knn"].values()) > 0.99, "clusters, one of them unknown"
    assert min(found["msp"].values()) > 0.9
    other = Cached(model.sets, Head(model.head.weight, model.head.bias, not normalize), unseen=True)
    assert held_out.of(other) is not found
    assert HeldOut(2, SETTING, []).of(frozen)["knn"].keys() == {"0", str(CLASSES - 1)}
    assert HeldOut(0, SETTING, []).of(frozen) == {}
    with pytest.raises(InputError, match=r"scores: .*\(a class held out\)\. Lower the value, or set evaluate\.held_out: 0"):
        HeldOut(1, SETTING.model_copy(update={"knn_k": 151}), []).of(frozen)  # 150 images of the others
    # The class that lies amid the others: what it is called by is nothing that a head knows.
    sets = {name: dict(tensors) for name, tensors in model.sets.items()}
    for tensors in sets.values():  # classes 0 and 1 look the same: neither can be told from the other
        same = tensors["labels"] == 1
        tensors["features"] = tensors["features"].clone()
        tensors["features"][same] = tensors["features"][tensors["labels"] == 0][: int(same.sum())]
    twins = HeldOut(CLASSES, SETTING, []).of(Cached(sets, model.head, unseen=True))["knn"]
    assert abs(twins["0"] - 0.5) < 0.35
    assert twins["0"] < twins["2"] > 0.99


def test_two_classes_leave_nothing_to_hold_out_and_three_a_head_of_two():
    model = cached(False)
    few = {name: {kind: tensor[tensors["labels"] < 2] for kind, tensor in tensors.items()} for name, tensors in model.sets.items()}
    pair = Head(model.head.weight[:2], model.head.bias[:2])
    assert HeldOut(6, SETTING, []).of(Cached(few, pair, unseen=True)) == {}
    train = few["id/train"]
    head = trained_head(train["features"], train["labels"], normalize=False)
    assert head.weight.shape == (2, DIMENSIONS)
    assert torch.equal(head.logits(train["features"]).argmax(1), train["labels"])

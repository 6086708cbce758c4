"""The papers' protocols: what each counts, and that they differ where they should."""

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, precision_recall_curve

from ood.evaluation import metrics, protocols
from ood.report.tables import protocol_table


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    return {
        "id/test": rng.normal(0, 1, 500),
        "near/a": rng.normal(1, 1, 900),
        "far/b": rng.normal(3, 1, 40),
        "validation/v": rng.normal(9, 1, 9),
    }


def test_a_draw_beside_few_id_images_has_an_image(scores):
    found = protocols.measure("oe", scores | {"id/test": scores["id/test"][:4]})
    assert all(np.isfinite(value) for value in found["all"].values())


def test_unleashing_mask_reads_whole_sets_with_id_as_positive(scores):
    found = protocols.measure("um", scores)
    each = [metrics.detection_metrics(scores["id/test"], scores[name]) for name in ("near/a", "far/b")]
    assert found == {
        "all": {
            "auroc": pytest.approx(np.mean([m["auroc"] for m in each])),
            "fpr": pytest.approx(np.mean([m["fpr_ood_at_tpr95_id"] for m in each])),
            "aupr": pytest.approx(np.mean([m["aupr_in"] for m in each])),
        }
    }


def test_openood_keeps_near_and_far_apart_and_takes_the_first_cut_with_95_percent(scores):
    found = protocols.measure("openood", scores)
    assert list(found) == ["far", "near"]
    expected = metrics.detection_metrics(scores["id/test"], scores["near/a"], "at_least")
    assert found["near"]["fpr"] == expected["fpr_id_at_tpr95_ood"]
    precision, recall, _ = precision_recall_curve(np.r_[np.zeros(500), np.ones(900)], np.r_[scores["id/test"], scores["near/a"]])
    assert found["near"]["aupr"] == pytest.approx(auc(recall, precision))


@pytest.mark.parametrize(("name", "aupr", "draws"), [("oe", 1 / 6, 10), ("dream", 5 / 6, 1)])
def test_a_random_score_at_one_to_five(scores, name, aupr, draws):
    """OE sheet 9, DREAM-OOD sheet 4: AUPR is near the positives' share, outliers' or ID's; FPR95 near 0.95. And how they draw."""
    rng = np.random.default_rng(1)
    chance = {"id/test": rng.normal(size=10_000), "far/b": rng.normal(size=30_000)}
    found = protocols.measure(name, chance)["all"]
    assert found["aupr"] == pytest.approx(aupr, abs=0.01)
    assert found["auroc"] == pytest.approx(0.5, abs=0.02)
    assert found["fpr"] == pytest.approx(0.95, abs=0.02)
    drawn = list(protocols.draws_of(name, scores["near/a"], 500, (0, 0)))
    assert len(drawn) == draws
    for one in drawn:
        assert len(np.unique(one)) == 100, "none twice"
        assert set(one) <= set(scores["near/a"])


def test_outlier_exposures_ten_draws_differ_and_come_again(scores):
    draws = list(protocols.draws_of("oe", scores["near/a"], 500, (0, 0)))
    assert len({drawn.tobytes() for drawn in draws}) == 10
    assert protocols.measure("oe", scores) == protocols.measure("oe", scores), "the same draws every time"


def test_the_spread_over_draws_is_each_sets_own(scores):
    """OE sheet: ± is np.std (population) over ten draws of one set; a set that is taken whole has none."""
    inside, near, far = scores["id/test"], scores["near/a"], scores["far/b"]
    found = protocols.measure("oe", {"id/test": inside, "near/a": near})["all"]
    rng = np.random.default_rng([0, 0])
    each = [metrics.detection_metrics(inside, rng.choice(near, 100, replace=False)) for _ in range(10)]
    assert found["auroc_draws"] == pytest.approx(np.std([draw["auroc"] for draw in each]))
    assert found["fpr_draws"] == pytest.approx(np.std([draw["fpr_id_at_tpr95_ood"] for draw in each]))
    assert found["aupr"] == pytest.approx(np.mean([draw["aupr_out"] for draw in each]))
    assert protocols.measure("oe", {"id/test": inside, "far/b": far})["all"]["auroc_draws"] == 0
    rng = np.random.default_rng([0, 1])
    each = [metrics.detection_metrics(inside, rng.choice(near, 100, replace=False))["auroc"] for _ in range(10)]
    both = protocols.measure("oe", {"id/test": inside, "far/b": far, "near/a": near})["all"]
    assert both["auroc_draws"] == pytest.approx(np.std(each) / 2), "the mean with a set that has none"
    assert protocols.measure("um", scores)["all"].keys() == set(protocols.FIGURES)
    line = str(protocol_table({"m": {"own": "msp", "protocols": {"oe": {"all": {key: [value] for key, value in found.items()}}}}}, "oe"))
    assert f"{100 * found['auroc']:.1f} ({100 * found['auroc_draws']:.1f})" in line


def test_dream_oods_figures_are_those_of_its_draw_and_have_no_spread(scores):
    inside, near, far = scores["id/test"], scores["near/a"], scores["far/b"]
    rng = np.random.default_rng([0, 1])
    each = [metrics.detection_metrics(inside, drawn) for drawn in (far, rng.choice(near, 100, replace=False))]  # far: too few to draw from
    assert protocols.measure("dream", scores) == {
        "all": {
            "auroc": pytest.approx(np.mean([m["auroc"] for m in each])),
            "fpr": pytest.approx(np.mean([m["fpr_ood_at_tpr95_id"] for m in each])),
            "aupr": pytest.approx(np.mean([m["aupr_in"] for m in each])),
        }
    }
    found = {key: [value] for key, value in protocols.measure("dream", scores)["all"].items()}
    assert "(" not in str(protocol_table({"m": {"own": "msp", "protocols": {"dream": {"all": found}}}}, "dream"))


def test_a_set_smaller_than_the_base_rate_asks_for_is_taken_whole(scores):
    only = {"id/test": scores["id/test"], "far/b": scores["far/b"]}
    whole = metrics.detection_metrics(only["id/test"], only["far/b"])
    assert protocols.measure("oe", only)["all"]["aupr"] == pytest.approx(whole["aupr_out"])


def test_trapezoid_differs_from_average_precision(scores):
    labels = np.r_[np.zeros(500), np.ones(40)]
    values = np.r_[scores["id/test"], scores["far/b"]]
    assert metrics.aupr_trapezoid(scores["far/b"], scores["id/test"]) != pytest.approx(average_precision_score(labels, values), abs=1e-6)


def test_outlier_exposure_on_texts_reads_the_rate_at_90_percent(scores):
    one = protocols.PROTOCOLS["oe-text"]
    assert one == protocols.PROTOCOLS["oe"]._replace(title=one.title, recall=0.9)
    inside, outside = np.arange(100.0), np.arange(50.0, 150.0)
    found = metrics.detection_metrics(inside, outside, recall=0.9)
    assert found["fpr_id_at_tpr95_ood"] == np.mean(inside >= 60) == 0.4
    assert metrics.detection_metrics(inside, outside)["fpr_id_at_tpr95_ood"] == np.mean(inside >= 55)
    drawn = protocols.measure("oe-text", scores), protocols.measure("oe", scores)
    assert drawn[0]["all"]["fpr"] < drawn[1]["all"]["fpr"]
    assert drawn[0]["all"]["auroc"] == drawn[1]["all"]["auroc"]

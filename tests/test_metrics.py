"""Metrics against golden vectors of the fact sheets, scikit-learn and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from ood.evaluation.metrics import (
    KEYS,
    bootstrap,
    detection_metrics,
    negative_log_likelihood,
    roc_curve,
)

# (ID, OOD, FPR95 closest, FPR95 at least, AUROC, AUPR-In); scores larger = ID, papers/unleashing-mask.md section 8.
GOLDEN = [
    (list(range(1, 21)), [0.5, 1.5, 1.5, 20.5], 0.75, 0.25, 0.725, 0.8635912780),
    (list(range(10, 0, -1)), [9.5, 8.5, 5.5, 5.5, 2.5, 1.5, 0.5, 0.5], 0.75, 0.75, 0.625, 0.6818506494),
    ([1.0] * 9 + [0.2], [1.0, 1.0, 0.3, 0.1], 0.75, 0.75, 0.7, 0.8132867133),
    ([1.0] * 10, [1.0] * 4, 1.0, 1.0, 0.5, 0.7142857143),
]


@pytest.mark.parametrize(("inside", "outside", "closest", "at_least", "auroc", "aupr"), GOLDEN)
def test_golden_vectors(inside, outside, closest, at_least, auroc, aupr):
    found = detection_metrics(-np.array(inside), -np.array(outside))
    assert set(found) == set(KEYS)
    assert found["fpr_ood_at_tpr95_id"] == closest
    assert found["auroc"] == pytest.approx(auroc, abs=1e-10)
    assert found["aupr_in"] == pytest.approx(aupr, abs=1e-10)
    assert detection_metrics(-np.array(inside), -np.array(outside), "at_least")["fpr_ood_at_tpr95_id"] == at_least


scores = st.lists(st.integers(-20, 20).map(lambda n: n / 4), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(scores, scores)
def test_agrees_with_scikit_learn_under_ties(inside, outside):
    labels = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
    values = np.r_[inside, outside]
    found = detection_metrics(inside, outside)
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, values))
    assert found["aupr_out"] == pytest.approx(average_precision_score(labels, values))
    assert found["aupr_in"] == pytest.approx(average_precision_score(1 - labels, -values))


def reference_fpr(positive: np.ndarray, negative: np.ndarray) -> float:
    """The papers' rule, written as it is described: a loop over distinct cuts, larger score = positive."""
    best = None
    for cut in sorted(set(positive) | set(negative)):  # recall 1 downwards
        recall = np.mean(positive >= cut)
        if recall == 1 and any(np.mean(positive >= c) == 1 for c in set(positive) | set(negative) if c > cut):
            continue  # only the first cut with full recall counts
        distance = abs(recall - 0.95)
        if best is None or distance < best[0]:
            best = (distance, np.mean(negative >= cut))
    return best[1]


@settings(max_examples=200, deadline=None)
@given(scores, scores)
def test_closest_rule_equals_its_description(inside, outside):
    found = detection_metrics(inside, outside)
    assert found["fpr_id_at_tpr95_ood"] == pytest.approx(reference_fpr(np.array(outside), np.array(inside)))
    assert found["fpr_ood_at_tpr95_id"] == pytest.approx(reference_fpr(-np.array(inside), -np.array(outside)))


@settings(max_examples=100, deadline=None)
@given(scores, scores)
def test_the_two_conventions_mirror_each_other(inside, outside):
    one, other = detection_metrics(inside, outside), detection_metrics(-np.array(outside), -np.array(inside))
    assert one["fpr_ood_at_tpr95_id"] == other["fpr_id_at_tpr95_ood"]
    assert one["aupr_in"] == pytest.approx(other["aupr_out"])


def test_at_least_rule_equals_pytorch_ood():
    library = pytest.importorskip("pytorch_ood.metrics")
    import torch

    rng = np.random.default_rng(0)
    inside, outside = rng.normal(0, 1, 300), rng.normal(1, 1, 200)
    oracle = library.OODMetrics()
    oracle.update(torch.tensor(np.r_[inside, outside]), torch.tensor(np.r_[np.zeros(300), -np.ones(200)]))
    found = detection_metrics(inside, outside, "at_least")
    expected = oracle.compute()
    assert found["auroc"] == pytest.approx(float(expected["AUROC"]), abs=1e-6)
    assert found["fpr_id_at_tpr95_ood"] == pytest.approx(float(expected["FPR95TPR"]), abs=1e-6)


def test_perfect_and_constant_scores():
    perfect = detection_metrics([0, 1, 2], [3, 4])
    assert (perfect["auroc"], perfect["fpr_ood_at_tpr95_id"], perfect["fpr_id_at_tpr95_ood"]) == (1, 0, 0)
    constant = detection_metrics([1.0] * 7, [1.0] * 3)
    assert (constant["auroc"], constant["fpr_ood_at_tpr95_id"], constant["fpr_id_at_tpr95_ood"]) == (0.5, 1, 1)


def test_random_scorer_at_the_papers_base_rate():
    rng = np.random.default_rng(1)
    found = detection_metrics(rng.random(10_000), rng.random(2_000))
    assert found["aupr_out"] == pytest.approx(1 / 6, abs=0.01)
    assert found["fpr_id_at_tpr95_ood"] == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("bad", [[], [[1.0]], [np.nan], [np.inf]])
def test_bad_scores_are_refused(bad):
    with pytest.raises(ValueError, match="id_scores"):
        detection_metrics(bad, [1.0])


def test_order_does_not_matter():
    rng = np.random.default_rng(2)
    inside, outside = rng.normal(0, 1, 50).round(1), rng.normal(1, 1, 70).round(1)
    assert detection_metrics(inside, outside) == detection_metrics(rng.permutation(inside), rng.permutation(outside))


def test_bootstrap_brackets_the_value_and_narrows_with_size():
    rng = np.random.default_rng(3)
    widths = []
    for size in (50, 800):
        inside, outside = rng.normal(0, 1, size), rng.normal(1.5, 1, size)
        draws = bootstrap(inside, [outside, outside + 0.1], 300, seed=0)
        exact = np.mean([detection_metrics(inside, o)["auroc"] for o in (outside, outside + 0.1)])
        low, high = np.quantile(draws["auroc"], [0.025, 0.975])
        assert low < exact < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_bootstrap_weights_equal_resampled_images():
    """One draw of the weighted computation is the plain metric of the images that it drew."""
    rng = np.random.default_rng(4)
    inside, outside = rng.normal(0, 1, 40).round(1), rng.normal(1, 1, 30).round(1)
    draws = bootstrap(inside, [outside], 5, seed=9)
    again = np.random.default_rng(9)
    id_counts = again.multinomial(40, np.full(40, 1 / 40), size=5)
    ood_counts = again.multinomial(30, np.full(30, 1 / 30), size=5)
    for draw in range(5):
        expected = detection_metrics(np.repeat(inside, id_counts[draw]), np.repeat(outside, ood_counts[draw]))
        assert draws["auroc"][draw] == pytest.approx(expected["auroc"])
        assert draws["fpr_ood_at_tpr95_id"][draw] == pytest.approx(expected["fpr_ood_at_tpr95_id"])


def test_roc_curve_has_the_area_of_the_auroc():
    rng = np.random.default_rng(5)
    inside, outside = rng.normal(0, 1, 2000), rng.normal(1, 1, 2000)
    rates, caught = roc_curve(inside, outside, 501)
    assert caught[0] <= 0.05
    assert caught[-1] == 1
    assert (np.diff(caught) >= 0).all()
    assert np.trapezoid(caught, rates) == pytest.approx(detection_metrics(inside, outside)["auroc"], abs=0.005)


def test_roc_curve_of_ties_is_the_straight_line():
    rates, caught = roc_curve([1.0] * 4, [1.0] * 4, 5)
    assert np.allclose(rates, caught)
    rates, caught = roc_curve([0.0, 1.0], [1.0, 1.0], 3)  # half of ID lies below all of OOD
    assert caught.tolist() == [0, 1, 1]


def test_negative_log_likelihood():
    logits = np.array([[2.0, 0.0], [0.0, 0.0]])
    expected = np.mean([np.log(1 + np.exp(-2)), np.log(2)])
    assert negative_log_likelihood(logits, np.array([0, 1])) == pytest.approx(expected)

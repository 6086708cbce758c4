"""Guarantees: ranks against the distributions that they come from, promises over thousands of draws, scores with ties among them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom, binomtest

from ood.detection import guarantee

ALPHA, CONFIDENCE = 0.05, 0.95


def test_how_many_images_a_promise_takes():
    assert [guarantee.rank(kind, 1000, ALPHA, CONFIDENCE) for kind in guarantee.KINDS] == [50, 39, 32]
    fewest = {kind: [guarantee.fewest(kind, rate, CONFIDENCE) for rate in (0.05, 0.01)] for kind in guarantee.KINDS}
    assert fewest == {"marginal": [19, 99], "conditional": [59, 299], "simultaneous": [118, 598]}
    for kind, counts in fewest.items():
        assert [guarantee.rank(kind, count, 0.05, CONFIDENCE) for count in (0, counts[0] - 1, counts[0])] == [0, 0, 1], kind


@given(st.integers(1, 3000), st.floats(0.001, 0.5), st.floats(0.5, 0.999))
def test_ranks_are_the_largest_that_hold(count, alpha, confidence):
    ranks = {kind: guarantee.rank(kind, count, alpha, confidence) for kind in guarantee.KINDS}
    rank, sure, all_at_once = ranks.values()
    assert rank / (count + 1) <= alpha * (1 + 1e-6)
    assert rank == count or (rank + 1) / (count + 1) > alpha * (1 - 1e-6)
    # With more than rank - 1 of `count` uniform draws below alpha, the rank-th smallest lies there: the same as the beta distribution.
    if sure:
        assert binom.sf(sure - 1, count, alpha) >= confidence - 1e-9
    if sure < count:
        assert binom.sf(sure, count, alpha) < confidence + 1e-9
    assert all_at_once <= sure, "to promise more takes more"
    for kind, found in ranks.items():
        if kind != "simultaneous" or count % 2 == 0:
            assert (found > 0) == (count >= guarantee.fewest(kind, alpha, confidence)), kind
    # The smallest rate is the one from which on a single image may be flagged.
    for kind, sureness in (("marginal", None), ("conditional", confidence)):
        smallest = guarantee.smallest_rate(count, sureness)
        assert guarantee.fewest(kind, smallest * (1 + 1e-6), confidence) <= count
        assert guarantee.fewest(kind, smallest * (1 - 1e-6), confidence) > count


@pytest.mark.parametrize("count", [1, 2, 7, 60, 173])
def test_the_simes_band_is_its_formula(count):
    """Bates et al. 2023: 1 - delta^(1/k) (i ... (i - k + 1) / n ... (n - k + 1))^(1/k) at the i-th smallest score from below."""
    k, delta = max(1, count // 2), 1 - CONFIDENCE
    expected = []
    for rank in range(1, count + 1):
        i = count + 1 - rank
        factors = [(i - j) / (count - j) for j in range(k)]
        share = math.exp(sum(map(math.log, factors)) / k) if min(factors) > 0 else 0.0
        expected.append(1 - delta ** (1 / k) * share)
    assert guarantee.simes_band(count, CONFIDENCE) == pytest.approx(expected, abs=1e-9)


def drawn(scores, count, draws=20_000, seed=0):
    """Calibration scores of many draws from a distribution, (draws, count), sorted, and the share of it above each of them."""
    rng = np.random.default_rng(seed)
    values = np.sort(scores(rng.random((draws, count))), axis=1)
    return values, rng


@pytest.mark.parametrize("count", [60, 173, 400])
def test_promises_hold_over_draws_of_calibration_images(count):
    """Uniform scores: the share of new images above a threshold t is 1 - t."""
    values, _ = drawn(lambda u: u, count)
    rates = 1 - values[:, ::-1]  # of the threshold at each rank
    marginal, sure = (rates[:, guarantee.rank(kind, count, ALPHA, CONFIDENCE) - 1] for kind in ("marginal", "conditional"))
    rank = guarantee.marginal_rank(count, ALPHA)
    assert marginal.mean() == pytest.approx(rank / (count + 1), abs=0.001)
    assert marginal.mean() <= ALPHA + 0.001
    assert (marginal > ALPHA).mean() > 0.3, "no promise for the threshold at hand"
    noise = 3 * math.sqrt(0.05 * 0.95 / len(rates))
    assert (sure > ALPHA).mean() <= 0.05 + noise
    rank = guarantee.conditional_rank(count, ALPHA, CONFIDENCE)
    assert (sure > ALPHA).mean() == pytest.approx(beta.sf(ALPHA, rank, count + 1 - rank), abs=noise)
    violated = (rates > guarantee.simes_band(count, CONFIDENCE)).any(1).mean()
    assert violated == pytest.approx(0.05, abs=noise), "the band is exact for scores without ties"
    each = (rates > [beta.ppf(CONFIDENCE, r, count + 1 - r) for r in range(1, count + 1)]).any(1).mean()
    assert each > 0.15, "the conditional promise doesn't hold for whoever looks for the best threshold"


@pytest.mark.parametrize("levels", [2, 5, 17])
@pytest.mark.parametrize("count", [60, 173])
def test_ties_flag_fewer_never_more(levels, count):
    """Scores of few values, the largest the likeliest: to flag what equals the threshold would break every promise."""

    def scores(u):
        return np.ceil(np.sqrt(u) * levels)

    values, rng = drawn(scores, count, 4000)
    fresh = scores(rng.random(20_000))
    share_above = {value: (fresh > value).mean() for value in [*np.unique(fresh), math.inf]}
    rates = {
        kind: np.array([share_above[guarantee.threshold(row, guarantee.rank(kind, count, ALPHA, CONFIDENCE))] for row in values])
        for kind in guarantee.KINDS
    }
    assert rates["marginal"].mean() <= ALPHA
    assert (rates["conditional"] > ALPHA).mean() <= 0.06
    assert (rates["simultaneous"] > ALPHA).mean() <= 0.06
    reached = np.array([(fresh >= guarantee.threshold(row, guarantee.marginal_rank(count, ALPHA))).mean() for row in values])
    assert reached.mean() > 2 * ALPHA


@given(st.lists(st.integers(0, 8), min_size=1, max_size=60), st.integers(-1, 9), st.floats(0.01, 0.6))
def test_a_p_value_says_what_the_marginal_threshold_says(calibration, score, alpha):
    """p <= alpha where and only where the score lies above the threshold; and it is the count that it is."""
    known = np.array(calibration, float)
    (p,) = guarantee.p_values(known, np.array([float(score)]))
    assert p == (1 + sum(value >= score for value in calibration)) / (len(calibration) + 1)
    cut = guarantee.threshold(known, guarantee.marginal_rank(len(known), alpha))
    if abs(p - alpha) > 1e-6:
        assert (score > cut) == (p <= alpha)


def test_p_values_of_id_images_are_no_smaller_than_uniform():
    rng = np.random.default_rng(1)
    for digits in (6, 1):
        found = [guarantee.p_values(rng.normal(size=40).round(digits), rng.normal(size=1).round(digits))[0] for _ in range(20_000)]
        for alpha in (0.03, 0.05, 0.1, 0.5):
            assert (np.array(found) <= alpha).mean() <= alpha + 3 * math.sqrt(alpha / 20_000)


@given(st.integers(1, 400).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))), st.floats(0.5, 0.99))
def test_intervals_are_those_of_clopper_and_pearson(seen, confidence):
    expected = binomtest(*seen).proportion_ci(confidence, method="exact")
    assert guarantee.interval(*seen, confidence) == pytest.approx((expected.low, expected.high), abs=1e-6)

"""Calibration against closed forms and a search that knows nothing of derivatives."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import f1_score

from ood.evaluation import calibration
from ood.evaluation.metrics import negative_log_likelihood


def overconfident(factor: float, count: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(z), logits factor * z."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, (count, 5))
    labels = (z + rng.gumbel(size=z.shape)).argmax(1)
    return factor * z, labels


def test_expected_rms_and_mad_in_closed_form():
    confidence, correct = np.full(200, 0.8), np.r_[np.ones(120), np.zeros(80)]
    assert calibration.expected_error(confidence, correct) == pytest.approx(0.2)
    # Two bins of 100: the less confident hold 100 right ones, the others 20.
    rising = confidence + 1e-9 * np.arange(200)
    assert calibration.rms_error(rising, correct) == pytest.approx(np.sqrt((0.2**2 + 0.6**2) / 2))
    assert calibration.mad_error(rising, correct) == pytest.approx((0.2 + 0.6) / 2)
    # Equal confidences are mixed first: whatever order they come in, both bins are about as right as all of them.
    assert calibration.rms_error(confidence, correct) == pytest.approx(0.2, abs=0.05)
    assert calibration.rms_error(np.full(50, 0.9), np.ones(50)) == pytest.approx(0.1)  # fewer than a bin is one bin
    # 250 samples are two bins, the last of 150.
    confidence, correct = np.r_[np.full(100, 0.5), np.full(150, 0.9)], np.ones(250)
    assert calibration.mad_error(confidence, correct) == pytest.approx(0.4 * 0.5 + 0.6 * 0.1)


def test_the_references_quirk_leaves_the_most_confident_bin_out_and_counts_it():
    confidence, correct = np.r_[np.full(100, 0.5), np.full(100, 0.9)], np.ones(200)
    assert calibration.mad_error(confidence, correct, quirk=True) == pytest.approx(0.5 * 0.5)
    assert calibration.rms_error(confidence, correct, quirk=True) == pytest.approx(np.sqrt(0.5 * 0.25))
    assert calibration.rms_error(np.full(150, 0.9), np.ones(150), quirk=True) == 0, "one bin, left out (OE sheet 10)"


def test_soft_f1_is_f1_where_confidence_is_certain():
    rng = np.random.default_rng(0)
    confidence, correct = rng.integers(0, 2, 50), rng.integers(0, 2, 50)
    assert calibration.soft_f1(confidence, correct) == pytest.approx(f1_score(1 - correct, 1 - confidence))
    assert calibration.soft_f1(np.array([0.5, 0.5]), np.array([1, 0])) == pytest.approx(2 * 0.5 / (1 + 1))
    assert calibration.soft_f1(np.ones(3), np.ones(3)) == 0


@pytest.mark.parametrize("factor", [0.4, 1.0, 1.7, 3.0])
def test_the_temperature_has_the_least_nll(factor):
    logits, labels = overconfident(factor)
    found = calibration.fit_temperature(logits, labels)
    best = minimize_scalar(
        lambda t: negative_log_likelihood(logits / t, labels), bounds=(0.2, 5), method="bounded", options={"xatol": 1e-7}
    )
    assert found == pytest.approx(best.x, abs=1e-4)
    assert found == pytest.approx(factor, rel=0.2), "what the logits were multiplied by"


@pytest.mark.parametrize(("factor", "edge"), [(0.01, 0.2), (40.0, 5.0)])
def test_the_temperature_stays_in_its_bracket(factor, edge):
    assert calibration.fit_temperature(*overconfident(factor)) == pytest.approx(edge, abs=1e-4)


def test_outliers_count_as_wrong():
    """A model that is sure of every outlier: one in six predictions is wrong and believed, whatever ID is like."""
    certain = np.zeros((600, 4))
    certain[:, 0] = 500.0
    validation = overconfident(1.0)[0][:, :4], np.zeros(400, dtype=int)
    figures = calibration.as_oe_measures(validation, (certain, np.zeros(600, dtype=int)), {"far/x": certain})
    assert figures["id_rms"] == pytest.approx(0, abs=1e-9)
    assert figures["mixed_mad"] == pytest.approx(1 / 6, abs=0.01), "120 of 720 samples"
    assert figures["mixed_rms"] == pytest.approx(1 / 6, abs=0.03), "all bins are alike, for all are equally sure"
    unsure = np.zeros((600, 4))
    better = calibration.as_oe_measures(validation, (certain, np.zeros(600, dtype=int)), {"far/x": unsure})
    assert better["mixed_soft_f1"] > figures["mixed_soft_f1"]
    assert better == calibration.as_oe_measures(validation, (certain, np.zeros(600, dtype=int)), {"far/x": unsure})

"""The detector's choice and its operating point: by validation alone, and figures counted by hand."""

import copy
import math

import numpy as np
import pytest

from ood.config.detector import Detector
from ood.deploy.answers import Answers
from ood.detection import rule as rules
from ood.detection.rule import Rule
from ood.errors import InputError
from ood.evaluation import operating
from ood.evaluation.choice import choose

CLASSES = ["a", "b"]
MODELS = {"ce": "msp", "um": "energy"}


def summary(picked, validation, test=0.5, held_out=None, accuracy=0.9):
    """What evaluate writes of a model: score -> AUROC on validation OOD, the same for both seeds."""
    grid = {score: {"validation/v": figures(value), "near/n": figures(test), "far/f": figures(test)} for score, value in validation.items()}
    seed = {
        "grid": grid,
        "id": {"val": {"accuracy": accuracy}},
        "errors": {},
        "calibration": {},
        "corrupted": {},
        "shifted": {},
        "held_out": held_out or {},
    }
    return {"picked": picked, "seeds": {"0": copy.deepcopy(seed), "1": seed}}


def figures(auroc):
    return dict.fromkeys(("auroc", "aupr_in", "aupr_out", "fpr_ood_at_tpr95_id", "fpr_id_at_tpr95_ood"), auroc)


RESULTS = {"ce": summary("knn", {"msp": 0.7, "knn": 0.8, "klm": 0.99}), "um": summary("vim", {"msp": 0.75, "vim": 0.78, "knn": 0.6})}


def test_the_best_on_validation_is_taken_and_test_figures_play_no_part():
    assert choose(Detector(), RESULTS, MODELS)[:2] == ("ce", "knn")
    assert choose(Detector(), RESULTS, MODELS).by == pytest.approx(0.8)
    for test in (0.0, 1.0):
        other = {"ce": summary("knn", {"msp": 0.7, "knn": 0.8}, test), "um": summary("vim", {"msp": 0.75, "vim": 0.78}, 1 - test)}
        assert choose(Detector(), other, MODELS)[:2] == ("ce", "knn")
    assert choose(Detector(score="msp"), RESULTS, MODELS)[:2] == ("um", "msp")
    assert choose(Detector(score="vim"), RESULTS, MODELS)[:2] == ("um", "vim"), "of the models that have it"
    assert choose(Detector(model="um"), RESULTS, MODELS)[:2] == ("um", "vim")
    assert choose(Detector(model="ce", score="klm"), RESULTS, MODELS)[:2] == ("ce", "klm")


def test_no_worse_classifier_is_taken_for_the_sake_of_its_score():
    results = {"ce": summary("msp", {"msp": 0.7}, accuracy=0.98), "l2": summary("msp", {"msp": 0.9}, accuracy=0.94)}
    models = {"ce": "msp", "l2": "msp"}
    assert choose(Detector(), results, models).model == "ce"
    assert choose(Detector(accuracy=0.05), results, models).model == "l2"
    assert choose(Detector(model="l2"), results, models).model == "l2"


def test_what_cannot_be_chosen_is_told():
    with pytest.raises(InputError, match="klm is fitted on the images"):
        choose(Detector(score="klm"), {name: summary("klm", {"klm": 0.9}) for name in MODELS}, MODELS)
    with pytest.raises(InputError, match=r"detector\.score: rmd isn't among those that are computed"):
        choose(Detector(score="rmd"), RESULTS, MODELS)


def test_held_out_figures_are_told_of_and_do_not_compare_models():
    held = {"knn": {"0": 0.2, "1": 0.4}, "msp": {"0": 0.9, "1": 0.9}}
    results = {"ce": summary("knn", {"msp": 0.7, "knn": 0.8}, held_out=held), "um": RESULTS["um"]}
    found = choose(Detector(), results, MODELS)
    assert found[:2] == ("ce", "knn")
    assert found.held_out == pytest.approx(0.3)
    assert choose(Detector(model="um"), results, MODELS).held_out is None


# --- the rule


def rule(scores, predicted=None, **changes):
    scores = np.array(scores, float)
    predicted = np.zeros(len(scores), int) if predicted is None else np.array(predicted)
    return Rule(scores, predicted, CLASSES, **{"reject": 0.2, "promise": "marginal", "confidence": 0.95} | changes)


def test_a_threshold_for_each_class_rests_on_what_is_taken_for_it():
    scores, predicted = [*range(10), *range(100, 120)], [0] * 10 + [1] * 20
    both = rule(scores, predicted, per_class=True)
    assert both.ranks == [2, 4]
    assert both.thresholds.tolist() == [8, 116]
    assert both.flags(np.array([8.5, 8.5, 117]), np.array([0, 1, 1])).tolist() == [True, False, True]
    assert both.p_values(np.array([8.5, 8.5]), np.array([0, 1])) == pytest.approx([2 / 11, 1])
    assert rule(scores, predicted).thresholds.tolist() == [114]


def test_too_few_images_are_told_with_how_many_it_takes():
    with pytest.raises(
        InputError, match=r"detector\.reject: 0\.2, conditional with confidence 0\.95, takes 14 calibration images; there are 10"
    ):
        rule(range(10), promise="conditional").must_hold("Do.")
    with pytest.raises(InputError, match=r"per_class: a marginal rate of 0\.2 takes 4 .* too few are for b \(3\)\. Do\."):
        rule(range(10), [0] * 7 + [1] * 3, per_class=True).must_hold("Do.")
    rule(range(10), [0] * 6 + [1] * 4, per_class=True).must_hold("Do.")
    rules.check(Detector(), None, 8)
    rules.check(Detector(model=None), 3, 8)
    rules.check(Detector(), 59, 8)
    rules.check(Detector(per_class=True), 8 * 59, 8)
    with pytest.raises(
        InputError, match=r"params\.yaml: detector\.reject: 0\.05, conditional .* takes 59 calibration images; there are 58"
    ):
        rules.check(Detector(), 58, 8)
    with pytest.raises(InputError, match=r"detector\.per_class, 8 classes: .* takes 59 calibration images; there are 58"):
        rules.check(Detector(per_class=True), 8 * 59 - 1, 8)


def test_what_has_no_number_is_flagged_and_calibrates_nothing():
    assert rule(range(10)).flags(np.array([np.nan, 0.0]), np.array([0, 0])).tolist() == [True, False]
    with pytest.raises(InputError, match="1 of 10 calibration images have no finite score"):
        Rule.of(Detector(), np.array([*range(9), np.nan]), np.zeros(10, int), CLASSES)


# --- figures by hand


def answers(scores, predicted):
    return Answers(np.eye(2)[predicted], np.array(scores, float), np.zeros((len(scores), 1), np.float32))


TESTED = operating.Tested(
    inside=answers([1, 2, 3, 9, 10], [0, 0, 1, 1, 0]),
    labels=np.array([0, 1, 1, 1, 1]),  # the second, accepted at 8, and the last, flagged there, are wrong
    outside={"near/n": answers([1, 9, 9, 9], [0, 0, 0, 0]), "far/f": answers([9, 9], [0, 0])},
)
RULE = rule(range(1, 11))  # 2 of 10 may lie above: the threshold is 9, its equals are kept


def test_figures_at_the_threshold():
    assert RULE.thresholds.tolist() == [9]
    found = operating.figures(rule(range(10)), TESTED, price=2.0)  # threshold 8
    assert found["id"] | {"low": 0, "high": 0} == {
        "flagged": 0.4, "low": 0, "high": 0, "images": 5, "accuracy": 0.6, "selective_accuracy": pytest.approx(2 / 3)
    }  # fmt: skip
    assert found["id"]["low"] == pytest.approx(0.0527, abs=1e-3)
    assert found["near"]["near/n"]["caught"] == 0.75
    assert found["far"]["far/f"]["caught"] == 1
    assert found["cost"] == pytest.approx(1 / 5 + 2 * (0.25 + 0) / 2)
    assert found["cost_without"] == pytest.approx(2 / 5 + 2 * 1)
    assert operating.headline(found)["near_caught"] == {"n": 0.75}


def test_over_all_rates():
    rows = operating.over_rates(RULE, TESTED, 1.0)
    by = {(row["guarantee"], row["reject"]): row for row in rows}
    assert len(by) == 3 * len(operating.RATES)
    assert by["marginal", 0.2]["threshold"] == 9
    assert by["marginal", 0.2]["id_flagged"] == 0.2
    assert by["marginal", 0.05]["threshold"] == by["marginal", 0.05]["cost"] == "", "10 images can't promise 5 %"
    assert set(operating.over_rates(RULE, None, 1.0)[0]) == {"guarantee", "reject", "rank", "threshold"}
    flagged = [row["id_flagged"] for row in rows if row["guarantee"] == "marginal" and row["id_flagged"] != ""]
    assert flagged == sorted(flagged)
    with_two = operating.over_rates(rule(range(20), [0, 1] * 10, per_class=True, reject=0.3), TESTED, 1.0)
    assert all(row["threshold"] == "" for row in with_two)
    assert any(row["id_flagged"] != "" for row in with_two)


def test_it_is_told_in_words_and_drawn(tmp_path):
    found = operating.figures(rule(range(10)), TESTED, 1.0)
    lines = operating.told(rule(range(10)), found)
    assert lines[0] == "on 10 calibration images: at most 20.0% of ID flagged, marginal: on average"
    assert "near/n: 75.0% caught" in lines[2]
    assert operating.told(RULE, None)[1:] == []
    operating.draw(tmp_path / "picture.png", "title", RULE, TESTED)
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_everything_flagged_leaves_no_accuracy():
    nothing = rule([-5, -4, -3, -2, -1], reject=0.5)
    found = operating.figures(nothing, TESTED, 1.0)
    assert found["id"]["selective_accuracy"] is None
    assert math.isfinite(found["cost"])
    assert "None" not in " ".join(operating.told(nothing, found))

"""The report: what it withholds."""

import pytest

from ood import metrics
from ood.evaluation import SCORES
from ood.report.dream import Dreams
from ood.report.tables import main_table, norm_table


def dreams(agreed: float, accuracy: float) -> Dreams:
    return Dreams(
        painter="someone",
        judge="ce",
        aligned={"validation_accuracy": accuracy},
        proofs={"prompts_agreed": agreed},
        embedded={},
        judged={},
        kept={"dream": ("outliers", 0.5, 10, 100)},
    )


def result(accuracy: float) -> dict:
    grid = {score: {f"{group}/x": dict.fromkeys(metrics.KEYS, accuracy) for group in ("validation", "near", "far")} for score in SCORES}
    figures = {"accuracy": accuracy}
    return {"own": "msp", "picked": "energy", "seeds": {"0": {"grid": grid, "id": {"val": figures, "test": figures}}}}


@pytest.mark.parametrize(("agreed", "accuracy", "learned"), [(0.9, 0.97, True), (0.7, 0.97, False), (0.5, 0.6, True), (0.45, 0.6, False)])
def test_a_painter_is_held_to_what_the_encoder_makes_of_real_images(agreed, accuracy, learned):
    found = dreams(agreed, accuracy)
    assert found.learned is learned
    assert found.meaningless == (set() if learned else {"dream"})
    assert ("has not learned to paint" in found.text()) is not learned


def test_a_withheld_model_has_a_row_that_says_why_and_no_figure():
    table = main_table({"ce": result(0.5)}, ["dream"]).splitlines()
    assert "| ce " in table[2]
    assert "50.0" in table[2]
    assert "| dream " in table[3]
    assert "its painter hasn't learned the ID classes" in table[3]
    assert not any(character.isdigit() for character in table[3])


def test_training_against_score_needs_two_models():
    assert norm_table({"ce": result(0.5)}, ["ce", "l2"]) is None
    table = norm_table({"ce": result(0.5), "l2": result(0.75), "um": result(0.1)}, ["ce", "l2", "scratch"])
    assert "75.0" in table
    assert "| um" not in table

"""The report: what it withholds."""

import pytest

from ood.config.methods import Mask
from ood.detection.detectors import NAMES
from ood.errors import InputError
from ood.evaluation import metrics
from ood.report.dream import Dreams
from ood.report.tables import (
    changes,
    control_table,
    error_table,
    held_out_table,
    main_table,
    norm_table,
    oe_calibration_table,
    siblings_of,
)
from ood.report.unmask import mask_text
from ood.tables import last_mean


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
    grid = {score: {f"{group}/x": dict.fromkeys(metrics.KEYS, accuracy) for group in ("validation", "near", "far")} for score in NAMES}
    figures = {"accuracy": accuracy}
    return {"own": "msp", "picked": "energy", "seeds": {"0": {"grid": grid, "id": {"val": figures, "test": figures}}}}


@pytest.mark.parametrize(("agreed", "accuracy", "learned"), [(0.9, 0.97, True), (0.7, 0.97, False), (0.5, 0.6, True), (0.45, 0.6, False)])
def test_a_painter_is_held_to_what_the_encoder_makes_of_real_images(agreed, accuracy, learned):
    found = dreams(agreed, accuracy)
    assert found.learned is learned
    assert found.meaningless == (set() if learned else {"dream"})
    assert ("has not learned to paint" in str(found.text())) is not learned


def test_a_withheld_model_has_a_row_that_says_why_and_no_figure():
    table = str(main_table({"ce": result(0.5)}, ["dream"])).splitlines()
    assert "| ce " in table[2]
    assert "50.0" in table[2]
    assert "| dream (its painter hasn't learned the ID classes) " in table[3]
    assert not any(character.isdigit() for character in table[3])


def test_training_against_score_needs_two_models():
    assert norm_table({"ce": result(0.5)}, ["ce", "l2"]) is None
    table = norm_table({"ce": result(0.5), "l2": result(0.75), "um": result(0.1)}, ["ce", "l2", "scratch"])
    assert "75.0" in str(table)
    assert "| um" not in str(table)


def measured(own: str, **auroc: list[float]) -> dict:
    """A model's summary with two seeds: AUROC of its own score on each set, FPR95 the rest to 1."""
    seeds = {}
    for seed in (0, 1):
        by_set = {name.replace("_", "/"): dict.fromkeys(metrics.KEYS, values[seed]) for name, values in auroc.items()}
        for values in by_set.values():
            values["fpr_ood_at_tpr95_id"] = 1 - values["auroc"]
        seeds[str(seed)] = {"grid": {own: by_set}, "id": {"test": {"accuracy": 0.5}}}
    return {"own": own, "picked": own, "seeds": seeds}


def test_what_a_method_does_where_nothing_tested_was_trained_with():
    """A gain that comes from a sibling alone is shown as such: here near/b is one, and on the others the method is worse."""
    method = measured("msp", near_a=[0.5, 0.6], near_b=[1.0, 1.0], far_c=[0.6, 0.7])
    control = measured("msp", near_a=[0.6, 0.8], near_b=[0.5, 0.5], far_c=[0.7, 0.7])
    header, _, row = str(control_table({"m": method, "c": control}, {"m": "c"}, {"near/b"})).splitlines()
    cells = dict(zip((c.strip() for c in header.split("|")), (c.strip() for c in row.split("|")), strict=True))
    assert cells["near AUROC"] == "+17.5 ± 3.5"
    assert cells["by seed"] == "every seed better"
    assert cells["AUROC without †"] == "-10.0 ± 0.0", "near -10 and -20, far -10 and 0: means over groups -10, -10"
    assert cells["FPR95 without †"] == "+10.0 ± 0.0"
    assert cells["by seed without †"] == "every seed worse"
    for siblings in (set(), {"near/a", "near/b", "far/c"}):
        assert "†" not in str(control_table({"m": method, "c": control}, {"m": "c"}, siblings))
    (change,) = changes({"m": method, "c": control}, {"m": "c"}, {"near/b"})
    assert change.everywhere.tolist() == pytest.approx([5.0, 7.5]), "near +20 and +15, far -10 and 0"
    assert change.points.tolist() == pytest.approx([-10.0, -10.0])
    assert change.verdict == "every seed worse"
    (change,) = changes({"m": method, "c": control}, {"m": "c"}, set())
    assert change.verdict == "every seed better"


def test_siblings_are_parts_of_one_data_set_or_of_one_kind():
    def folder(path: str, listing: str | None = None) -> dict:
        return {"source": {"source": "folder", "path": path, "listing": listing}}

    manifest = {
        "auxiliary/tin": folder("downloads/tin32/aux"),
        "auxiliary/mine": folder("/data/mine"),
        "auxiliary/letters": {"source": {"source": "glyphs"}},
        "auxiliary/svhn": {"source": {"source": "torchvision", "name": "SVHN"}},
        "near/tin": folder("downloads/tin32/test"),
        "near/letters": {"source": {"source": "glyphs"}},
        "near/others": folder("/data/others"),
        "far/dtd": folder("downloads/dtd32"),
        "far/listed": folder("downloads/openood/images", "downloads/openood/lists/test_tin.txt"),
        "far/svhn": {"source": {"source": "torchvision", "name": "SVHN"}},
        "far/mnist": {"source": {"source": "torchvision", "name": "MNIST"}},
    }
    assert siblings_of(manifest) == {"near/tin", "near/letters", "far/svhn"}


def test_calibration_and_errors_have_tables():
    found = measured("msp", near_a=[0.5, 0.6])
    for seed, summary in found["seeds"].items():
        parts = {f"{kind}_{key}": 0.1 + 0.1 * int(seed) for kind in ("id", "mixed") for key in ("rms", "mad", "soft_f1")}
        summary["calibration"] = {"temperature": 1.5} | parts
        summary["errors"] = {"msp": {"auroc": 0.9, "aupr_out": 0.5, "fpr_id_at_tpr95_ood": 0.4, "count": 3.0}}
    table = str(oe_calibration_table({"m": found})).splitlines()[2]
    assert table.count("15.0 ± 7.1") == 6
    assert "| 1.50 " in table
    found["seeds"]["1"]["calibration"]["temperature"] = 5.0
    assert "edge of the search" in str(oe_calibration_table({"m": found}))
    row = str(error_table({"m": found})).splitlines()[2]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["m", "msp", "3", "90.0 ± 0.0", "50.0 ± 0.0", "40.0 ± 0.0"]
    found["seeds"]["0"]["errors"] = {}
    assert "| 90.0 |" in str(error_table({"m": found})).replace("  ", " ").replace("  ", " ")
    found["seeds"]["0"]["calibration"] = {}
    assert error_table({"m": found}) is None
    assert oe_calibration_table({"m": found}) is None


@pytest.mark.parametrize(("stage", "run"), [("um", "control"), ("umap", "umap"), ("oe", "dream")])
def test_a_training_that_is_missing_is_named_with_its_stage(tmp_path, monkeypatch, stage, run):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"metrics/training/{run}\.csv: not there\. Run `python -m stages {stage} {run}` first"):
        last_mean(run, stage, "ce")


def test_a_mask_that_flips_every_image_or_none_has_its_words():
    figures = {
        "constraint": 1.5,
        "constraint_std_over_masks": 0.1,
        "guessing": 2.0,
        "destroyed": 0.0,
        "dense_loss": 0.01,
        "memorised": 1.0,
        "share_flipped_by_any_mask": 1.0,
    }
    mask = Mask(keep=0.99, masks=2, runs={"um": {"init": "ce"}})
    for flipped, rest, words, missing in (
        (0.5, None, "0.5 (logits).", "others"),
        (0.5, 3.0, "others' 3.0", "None"),
        (None, 3.0, "mask.", "margin"),
    ):
        text = mask_text(figures | {"median_margin_flipped": flipped, "median_margin_rest": rest}, mask, mask.runs["um"])
        assert words in text
        assert missing not in text
        assert "guessing" not in text
    destroyed = figures | {"median_margin_flipped": 0.5, "median_margin_rest": None, "destroyed": 1 / 3}
    assert "In 33% of the seeds that is no better than guessing (2.00)" in mask_text(destroyed, mask, mask.runs["um"])
    heads = Mask(keep=0.99, masks=2, layers="head", runs={"um": {"init": "ce"}})
    assert "Masking a random 1.0% of the head's weights" in mask_text(figures | {"median_margin_flipped": None}, heads, heads.runs["um"])


def test_the_table_of_what_was_held_out_is_of_frozen_backbones_alone():
    found = result(0.5)
    assert held_out_table({"ce": found}) is None
    found["seeds"]["0"]["held_out"] = {"energy": {"0": 0.6, "3": 0.8}, "msp": {"0": 0.2, "3": 0.2}}
    table = held_out_table({"ce": found, "um": result(0.5)})
    assert table is not None
    row, *rest = str(table).splitlines()[2:]
    assert not rest
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["ce", "energy", "50.0", "70.0"]

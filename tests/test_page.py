"""The page: valid, alone, safe against names, true to what it was given."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import ROOT
from html5lib.html5parser import ParseError
from pages import checked, words
from PIL import Image

from ood import seconds
from ood.closure import closure
from ood.deploy.calibrated import Calibrated
from ood.detection.rule import Rule
from ood.drawing import COLOURS, plt, svg
from ood.report import charts, detector, made, summary
from ood.report.blocks import Fold, Gallery, Listing, Picture, Row, Section, Table, Text, given
from ood.report.page import html

HOSTILE = '<script>alert("1")</script> & "x" </td> {{ 7 * 7 }} <img src=x onerror=alert(1)> [a](javascript:alert(1)) $\\frac$'


def figure(key: str, name: str = "model"):
    return charts.roc(key, name, [{"group": "near", "false positive rate": str(x), "true positive rate": str(x)} for x in (0, 0.5, 1)])


def page(name: str) -> str:
    """One of each kind of block, all of them named so."""
    image = np.zeros((8, 8, 3), np.uint8)
    blocks = [
        Text(f"`code` and **bold**, {name}", warning=True),
        Table([name, "figure"], [[name, "1.0 ± 0.1"], ["b", "-"]]),
        Row([figure("one", name), charts.spans("two", "near", [(name, (0.5, 0.4, 0.6))], "AUROC", 0.95)]),
        Gallery(name, [Picture.of(image, name, name, name)]),
        Fold(name, [Listing(name), figure("three", name)]),
    ]
    return html([Section("first", name, blocks), Section("second", "Second", [Text("x")])])


@pytest.mark.parametrize("name", ["ordinary", HOSTILE, "日本語 ÄÖ 🐱", "*a* _b_ `c`"])
def test_a_page_is_valid_and_needs_nothing_whatever_names_are(name):
    tree = checked(page(name))
    assert len(list(tree.iter("script"))) == 1
    assert not any(element.get("onerror") for element in tree.iter() if isinstance(element.tag, str))
    assert name in next(element for element in tree.iter("pre")).text
    assert name in [cell.text for cell in tree.iter("th")]
    assert {element.get("id") for element in tree.iter("section")} == {"first", "second"}
    assert [element.text for element in tree.iter("strong")][:1] == ["bold"] if name != "*a* _b_ `c`" else True
    assert "49" not in words(next(element for element in tree.iter("h2")))


def test_the_check_of_pages_sees_what_is_wrong():
    good = page("ordinary")
    checked(good)
    with pytest.raises(ParseError):
        checked(good.replace("</table>", ""))
    for old, new in (
        ('alt="ordinary"', 'alt=""'),
        ('id="second"', 'id="first"'),
        ('src="data:', 'src="https:'),
        ('"use strict"', '"use  strict"'),
    ):
        assert old in good
        with pytest.raises(AssertionError):
            checked(good.replace(old, new, 1))


def test_figures_stand_in_a_page_without_touching_it():
    """No style of their own for the whole page, no name twice, colours and font the page's."""
    first, second = (ElementTree.fromstring(figure(key).svg) for key in ("a", "b"))
    names = [{element.get("id") for element in tree.iter()} - {None} for tree in (first, second)]
    assert names[0]
    assert not names[0] & names[1]
    text = figure("a").svg
    assert figure("a").svg == text, "equal figures are equal bytes"
    assert "var(--near)" in text
    assert "var(--ink)" in text
    assert not any(colour in text for colour in COLOURS.values())
    assert "<style" not in text
    assert "DejaVu" not in text
    assert "metadata" not in text
    assert "near-OOD</text>" in text, "words are words"


def test_no_name_is_read_as_mathematics():
    drawn, axes = plt.subplots()
    axes.set_title("$\\frac$ costs $5")
    assert "$\\frac$ costs $5" in svg(drawn, "k")


def decoded(picture: Picture) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture.data.split(",")[1])))


def test_small_pictures_stay_as_they_are_and_large_ones_get_small():
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        image = np.broadcast_to(rng.integers(0, 256, (8, 8, channels), dtype=np.uint8), (8, 8, 3)).copy()
        picture = Picture.of(image, "x")
        assert picture.sharp
        assert np.array_equal(np.asarray(decoded(picture).convert("RGB")), image)
    large = Picture.of(rng.integers(0, 256, (300, 200, 3), dtype=np.uint8), "x")
    assert not large.sharp
    assert decoded(large).size == (85, 128)


def test_a_table_is_text_and_html():
    table = Table(["model", "AUROC", "score"], [["ce", "97.5 ± 2.5", "msp"], ["l2", "-", "knn"]])
    assert str(table).splitlines() == [
        "| model | AUROC      | score |",
        "| ----- | ---------- | ----- |",
        "| ce    | 97.5 ± 2.5 | msp   |",
        "| l2    | -          | knn   |",
    ]
    tree = checked(html([Section("t", "T", given("above", table))]))
    assert [(cell.get("class"), cell.text) for cell in tree.iter("td")] == [("n", "97.5 ± 2.5"), (None, "msp"), ("n", "-"), (None, "knn")]
    assert given("above", None) == []


def test_curves_leave_out_what_cannot_be_promised():
    rows = [{"guarantee": "marginal", "reject": str(r), "id_flagged": "", "near_caught": "", "far_caught": ""} for r in (0.01, 0.05)]
    found = Calibrated("ce", "msp", True, 0.9, None, [0], [1.0], 1, 0.05, "marginal", 0.95, False, 10, {})
    assert detector._curves(found, rows) == []
    rows[1] |= {"id_flagged": "0.04", "near_caught": "0.5"}
    promised, caught = detector._curves(found, rows)
    assert "marginal</text>" in promised.svg
    assert "conditional" not in promised.svg
    assert "near-OOD</text>" in caught.svg
    assert "far-OOD" not in caught.svg


def test_errors_are_those_beyond_the_threshold_the_farthest_first(monkeypatch):
    """Of ID what is flagged, the strangest first; of OOD what is accepted, the most ordinary first; each with what it was taken for."""
    rule = Rule(np.arange(100.0), np.zeros(100, np.int64), ["cat", "dog"], 0.1, "marginal", 0.95)
    answers = {
        **{"id/test:scores": np.array([1.0, 95.0, 200.0, 2.0]), "id/test:predicted": np.array([0, 1, 0, 0])},
        **{"near/a:scores": np.array([300.0, 50.0]), "near/a:predicted": np.array([0, 1])},
        **{"near/b:scores": np.array([10.0]), "near/b:predicted": np.array([0])},
    }
    monkeypatch.setattr(detector, "images", lambda name, index: np.full((len(index), 8, 8, 3), 7, np.uint8))
    monkeypatch.setattr(detector.packed, "labels", lambda name: np.array([0, 0, 0, 1]))
    known = detector._errors("ID test", ["id/test"], answers, rule)
    assert known.title.startswith("ID test: 2 of 4 images flagged")
    assert [picture.lines[0] for picture in known.pictures] == ["cat", "cat, taken for dog"]
    assert [picture.lines[1] for picture in known.pictures] == ["p 0.0099", "p 0.059"]
    unknown = detector._errors("near-OOD", ["near/a", "near/b"], answers, rule)
    assert unknown.title.startswith("near-OOD: 2 of 3 images accepted, though unknown, the most ordinary first")
    assert [picture.lines[:2] for picture in unknown.pictures] == [("b", "taken for cat"), ("a", "taken for dog")]


def test_a_detector_that_is_blind_to_a_set_is_said_to_be():
    found = Calibrated("ce", "msp", True, 0.9, None, [0], [1.0], 1, 0.05, "marginal", 0.95, False, 100, {})

    def told(low: float, caught: float) -> list[str]:
        figures = {"near": {"near/a": {"caught": caught, "low": low}}, "far": {"far/b": {"caught": 1.0, "low": 0.9}}}
        return [text.said for text in summary.blind(SimpleNamespace(detector=found, operating=figures))]

    assert told(0.2, 0.3) == []
    (said,) = told(0.03, 0.054)
    assert "near/a (5.4%)" in said
    assert "far/b" not in said


def test_templates_count_for_the_report_and_for_nothing_else():
    assert {"ood/report/page/page.css", "ood/report/page/page.html.jinja", "ood/report/page/page.js"} <= set(closure("stages/report.py"))
    assert not any(path.endswith((".css", ".jinja", ".js")) for path in closure("stages/evaluate.py"))


def test_seconds_are_noted_and_a_note_that_fails_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("OOD_SCRATCH", str(tmp_path))
    seconds.note("um@um", 12.34)
    (seconds.folder() / "oe@oe.json").write_text("{damaged")
    (seconds.folder() / "mask@um.json").write_text('{"seconds": null}')
    assert seconds.noted(["um@um", "oe@oe", "mask@um", "never"]) == {"um@um": 12.3}
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OOD_SCRATCH", str(tmp_path / "file"))
    seconds.note("um@um", 1.0)
    assert seconds.noted(["um@um"]) == {}


@pytest.mark.slow
def test_a_stage_notes_its_time_and_a_refused_one_does_not(tmp_path):
    """`recipe` may be called anywhere and leaves nothing but what it was asked for."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OOD_SCRATCH": str(tmp_path / "scratch")}
    for name in ("check", "recipe"):
        subprocess.run([sys.executable, "-m", "stages", name], cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert not (tmp_path / "scratch").exists()
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    subprocess.run([sys.executable, "-m", "stages", "recipe", "--list"], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert not (tmp_path / "scratch").exists()
    subprocess.run([sys.executable, "-m", "stages", "check"], cwd=tmp_path, env=environment, capture_output=True, check=True)
    noted = json.loads((tmp_path / "scratch/seconds/check.json").read_text())["seconds"]
    assert 0 < noted < 600


def test_where_there_is_no_git_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert made.commit() == "of no commit (no git here)"
    monkeypatch.setenv("PATH", "")
    assert made.commit() == "of no commit (no git here)"
    assert re.fullmatch(r"\d+ cores \(.+\)", made.machine())

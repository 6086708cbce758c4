"""The page: valid, alone, safe against names, true to what it was given."""

import base64
import io
import json
import os
import re
import shutil
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
from ood.config.evaluation import Evaluate, Report
from ood.config.methods import OE, UM, UMAP
from ood.config.training import Seeds, Training
from ood.deploy.calibrated import Calibrated
from ood.detection.rule import Rule
from ood.drawing import COLOURS, plt, svg
from ood.evaluation import metrics
from ood.report import charts, detector, made, measured, summary
from ood.report.blocks import Fold, Gallery, Listing, Picture, Quote, Row, Section, Table, Text, given
from ood.report.page import html
from ood.report.thumbnails import by_class

HOSTILE = (
    '<script>alert("1")</script> & "x" </td> {{ 7 * 7 }} <img src=x onerror=alert(1)> [a](javascript:alert(1)) '
    "![p](https://x/y.png) <https://x> $\\frac$"
)


def figure(key: str, name: str = "model"):
    return charts.roc(key, name, [{"group": "near", "false positive rate": str(x), "true positive rate": str(x)} for x in (0, 0.5, 1)])


def page(name: str) -> str:
    """One of each kind of block, all of them named so."""
    image = np.zeros((8, 8, 3), np.uint8)
    blocks = [
        Text(f"`code` and **bold**, {name}", warning=True),
        Table([name, "figure"], [[name, "1.0 ± 0.1"], ["b", "-"]]),
        Row([figure("one", name), charts.spans("two", "near", [(name, (0.5, 0.4, 0.6))], "AUROC", "an interval")]),
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


BROWSER = """
const rows = JSON.parse(process.argv[1]);
const cell = (text) => ({
  textContent: text, childNodes: [text], attributes: {}, append() {},
  get ariaSort() { return this.attributes["aria-sort"] ?? null; },
  setAttribute(name, value) { this.attributes[name] = value; }, removeAttribute(name) { delete this.attributes[name]; },
});
const head = [{ cells: rows[0].map(cell) }];
const body = { rows: rows.slice(1).map((row) => ({ cells: row.map(cell) })), append(...now) { this.rows = now; } };
const clicks = [];
globalThis.document = {
  querySelectorAll: (what) => (what === "table" ? [{ tHead: { rows: head }, tBodies: [body] }] : []),
  createElement: () => ({ append() {}, addEventListener(event, act) { clicks.push(act); } }),
};
globalThis.addEventListener = () => {};
require("vm").runInThisContext(require("fs").readFileSync(process.argv[2], "utf8"));
const out = JSON.parse(process.argv[3]).map((column) => {
  clicks[column]();
  return [head[0].cells[column].ariaSort, body.rows.map((row) => row.cells[0].textContent)];
});
console.log(JSON.stringify(out));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js, which runs the page's script here as a browser would")
def test_tables_sort_by_figures_and_by_words_and_gaps_come_last():
    rows = [
        ["model", "AUROC", "change", "b"],
        ["b", "97.5 ± 2.5", "-0.3", "0.008"],
        ["a", "100.0 ± 0.0", "+1.8", "none"],
        ["c", "-", "-4.7", "0.01"],
    ]
    clicked = [0, 0, 1, 1, 2, 3]
    script = str(ROOT / "ood/report/page/page.js")
    said = subprocess.run(
        ["node", "-e", BROWSER, "--", json.dumps(rows), script, json.dumps(clicked)], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout) == [
        ["ascending", ["a", "b", "c"]],
        ["descending", ["c", "b", "a"]],
        ["descending", ["a", "b", "c"]],
        ["ascending", ["b", "a", "c"]],
        ["descending", ["a", "b", "c"]],
        ["descending", ["c", "b", "a"]],
    ]


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
    monkeypatch.setattr(detector, "pictures", lambda _name, _index, lines: [Quote.of("", *own) for own in lines])
    monkeypatch.setattr(detector.packed, "labels", lambda name: np.array([0, 0, 0, 1]))
    known = detector._errors("ID test", ["id/test"], answers, rule)
    assert known.title.startswith("ID test: 2 of 4 images flagged")
    assert [picture.lines[0] for picture in known.pictures] == ["cat", "cat, taken for dog"]
    assert [picture.lines[1] for picture in known.pictures] == ["p 0.0099", "p 0.059"]
    unknown = detector._errors("near-OOD", ["near/a", "near/b"], answers, rule)
    assert unknown.title.startswith("near-OOD: 2 of 3 images accepted, though unknown, the most ordinary first")
    assert [picture.lines[:2] for picture in unknown.pictures] == [("b", "taken for cat"), ("a", "taken for dog")]


def summary_of(own: str, **auroc: list[float]) -> dict:
    """A model's summary: AUROC of its own score on each set, one value a seed; `near_a` is near/a."""
    seeds = {}
    for seed in range(len(next(iter(auroc.values())))):
        by_set = {name.replace("_", "/"): dict.fromkeys(metrics.KEYS, values[seed]) for name, values in auroc.items()}
        seeds[str(seed)] = {"grid": {own: by_set, "msp": by_set}, "id": {"test": {"accuracy": 0.9}}}
    return {"own": own, "picked": own, "seeds": seeds}


def measured_of(results: dict, **more) -> SimpleNamespace:
    entry = {
        "source": {"source": "noise"},
        "count": 200,
        "dropped": 0,
        "skipped": {},
        "classes": {"a": 100, "b": 100},
        "mislabelled": 0,
        "sha256": "",
    }
    near = entry | {"source": {"source": "photo"}}
    manifest = dict.fromkeys(("id/train", "id/val", "id/test"), entry) | {"near/a": near, "far/b": near}
    plain = {"withheld": [], "masks": {}, "detector": None, "operating": None, "dreams": None}
    return SimpleNamespace(results=results, shown=results, manifest=manifest, **(plain | more))


def parameters(seeds: list[int], pairs: dict[str, str]) -> dict:
    return {Seeds: Seeds(seeds), Report: Report(pairs=pairs), Evaluate: Evaluate(roles=["val", "test"])}


def test_the_summary_judges_a_method_as_it_is_used():
    """Each on its own score; better, worse, neither, and how many would agree by chance."""
    results = {
        "ce": summary_of("msp", near_a=[0.80, 0.80], far_b=[0.90, 0.90]),
        "good": summary_of("energy", near_a=[0.83, 0.84], far_b=[0.91, 0.92]),
        "bad": summary_of("feature_norm", near_a=[0.40, 0.41], far_b=[0.50, 0.52]),
        "mixed": summary_of("msp", near_a=[0.90, 0.70], far_b=[0.90, 0.90]),
        "hardly": summary_of("msp", near_a=[0.802, 0.802], far_b=[0.902, 0.902]),
    }
    pairs = dict.fromkeys(("good", "bad", "mixed", "hardly"), "ce")
    (text,) = summary.helped(measured_of(results), parameters([0, 1], pairs))
    better, worse, neither = re.search(
        r"Better.*?\*\* (.*?)\. \*\*Worse.*?\*\* (.*?)\. \*\*Seeds differ.*?\*\* (.*?)\. Were", text.said
    ).groups()
    assert better == "`good` (+2.5)"
    assert worse == "`bad` (-39.2)"
    assert neither == "`hardly` (+0.2), `mixed` (+0.0)"
    assert "the seeds of about 2 of these 4 comparisons" in text.said, "4 pairs, each with probability 1/2"
    (alone,) = summary.helped(measured_of(results), parameters([0], pairs))
    assert "With one seed nothing can be said" in alone.said
    assert summary.helped(measured_of(results), parameters([0, 1], {})) == []
    (warned,) = summary.below_chance(measured_of(results))
    assert warned.said == "Worse than tossing a coin, by AUROC: bad (feature_norm, near: 40.5)."


def test_the_summary_warns_of_what_means_nothing():
    results = {"ce": summary_of("msp", near_a=[0.9], far_b=[0.9])}
    assert summary.cautions(measured_of(results)) == []
    masks = {"um": {"destroyed": 0.5, "memorised": 1}, "other": {"destroyed": 0.0, "memorised": 0.5}}
    found = Calibrated("dream", "msp", True, 0.9, None, [0], [1.0], 1, 0.05, "marginal", 0.95, False, 100, {})
    said = [text.said for text in summary.cautions(measured_of(results, masks=masks, withheld=["dream"], detector=found))]
    assert [any(word in text for text in said) for word in ("masks of um have", "masks of other are", "detector is one of these")] == [
        True
    ] * 3


def test_what_was_computed_on_validation_alone_says_so_first():
    results = {"ce": summary_of("msp", validation_a=[0.9])}
    found = measured_of(results)
    found.manifest = {name: entry for name, entry in found.manifest.items() if name.startswith("id/")} | {
        "validation/a": found.manifest["id/val"]
    }
    warning, text, *_ = summary.in_words(found, parameters([0], {}))
    assert warning.warning
    assert "test set" not in text.said
    first, *_ = summary.limits(found, parameters([0], {}))
    assert first.said.startswith("ID val has 200 images")


def test_the_detector_says_who_chose_it_and_at_which_rate():
    figures = {"id": {"accuracy": 0.9, "flagged": 0.01}, "near": {"near/a": {"caught": 0.4}, "near/c": {"caught": 0.6}}, "far": {}}
    for picked, words_ in ((True, "chosen on validation data"), (False, "named in `params.yaml`")):
        found = Calibrated("ce", "msp", picked, 0.9, None, [0], [1.0], 1, 0.0005, "marginal", 0.95, False, 100, {})
        (text,) = summary.usable(measured_of({}, detector=found, operating=figures))
        assert words_ in text.said
        assert "at most 0.05% may be" in text.said
        assert "to 50 of 100 near-OOD images." in text.said


@pytest.fixture
def drawn(monkeypatch):
    """The figures that charts draw, as matplotlib has them."""
    kept = []

    def keep(figure, key):
        kept.append(figure)
        return ""

    monkeypatch.setattr(charts, "svg", keep)
    yield kept
    for figure in kept:
        plt.close(figure)


def test_curves_show_what_they_were_given(drawn):
    charts.roc("k", "m", [{"group": "far", "false positive rate": "0.1", "true positive rate": y} for y in ("0.4", "0.7")])
    line = drawn[0].axes[0].lines[1]
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0.1, 0.1], [0.4, 0.7])
    assert line.get_color() == COLOURS["far"]
    rows = [{"group": group, "score": "1.0", "share": "0.5"} for group in ("ID val", "validation", "ID test", "near")]
    charts.histogram("k", "m", "msp", rows)
    assert [text.get_text() for text in drawn[1].axes[0].get_legend().get_texts()] == ["ID test", "near-OOD"], "no mixture of roles"
    charts.spans("k", "near", [("a", (0.5, 0.4, 0.6)), ("b", (0.7, 0.6, 0.8))], "AUROC", "")
    marks = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in drawn[2].axes[0].lines if line.get_marker() != "None"]
    assert marks == [(0.5, 1.0), (0.7, 0.0)], "the first on top"
    charts.epochs("k", "t", {"near": np.array([[0.5, 0.6], [0.7, 0.8]])}, np.array([1, 2]), {"picked": 2}, "AUROC", percent=True)
    assert drawn[3].axes[0].lines[0].get_ydata().tolist() == pytest.approx([0.6, 0.7]), "the mean over seeds"


@pytest.mark.parametrize("values", [[1.5, 1e-4], [0.31, 0.29], [0.05, 0.04]])
def test_logarithmic_axes_have_plain_numbers(values):
    drawn = charts.epochs("k", "t", {"training loss": np.array([values])}, np.array([1, 2]), {}, "loss")
    assert "mathdefault" not in drawn.svg
    assert "$" not in drawn.svg
    numbers = [float(text) for text in re.findall(r">([\d.e-]+)</text>", drawn.svg)]
    assert sum(min(values) / 3 <= number <= max(values) * 3 for number in numbers) >= 2


def test_samples_of_id_are_of_every_class_there_is_room_for():
    labels = np.repeat([0, 1, 2], [100, 1, 30])
    assert np.bincount(labels[by_class(labels, 12)]).tolist() == [4, 1, 4], "one image can't be shown four times"
    assert (
        np.unique(np.repeat(np.arange(50), 3)[by_class(np.repeat(np.arange(50), 3), 12)]).tolist()
        == np.linspace(0, 49, 12).astype(int).tolist()
    )


def test_a_detector_that_is_blind_to_a_set_is_said_to_be():
    found = Calibrated("ce", "msp", True, 0.9, None, [0], [1.0], 1, 0.05, "marginal", 0.95, False, 100, {})

    def told(low: float, caught: float) -> list[str]:
        figures = {"near": {"near/a": {"caught": caught, "low": low}}, "far": {"far/b": {"caught": 1.0, "low": 0.9}}}
        return [text.said for text in summary.blind(SimpleNamespace(detector=found, operating=figures))]

    assert told(0.2, 0.3) == []
    assert told(0.03, 0.5) == [], "few images, of which half are caught, are no proof of blindness"
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
    assert made.commit() == "at no commit (no git here)"
    monkeypatch.setenv("PATH", "")
    assert made.commit() == "at no commit (no git here)"
    assert re.fullmatch(r"\d+ cores \(.+\)", made.machine())


def test_a_selective_run_is_not_said_to_miss_a_mean_loss_that_it_never_held(monkeypatch):
    training = Training(epochs=1, batch_size=8, lr=0.1)
    runs = {name: {"init": "ce", "constraint": "um"} for name in ("um", "flood")}
    runs["flood"]["forget"] = {"by": "loss", "share": 0.1, "how": "flood"}
    monkeypatch.setattr(measured, "last_mean", lambda name, stage, column: 0.01)
    params = {UM: UM(training=training, runs=runs), UMAP: UMAP(keep=0.9, training=training, runs={})}
    params[OE] = OE(outlier_batch=8, training=training, runs={})
    assert measured.levels(params, {"um": {"constraint": 0.3}}) == {"um": (0.3, 0.01)}

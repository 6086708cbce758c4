"""What the README and docs/results.md say is what the committed runs printed."""

import csv
import json
import re
import sys

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

sys.path.insert(0, str(ROOT / "benchmarks"))
import epochs
import over_draws
import stopping
import um_regimes
from over_draws import DOSES


def first_table(text: str) -> str:
    return re.search(r"^\|.*?(?=\n\n)", text, re.MULTILINE | re.DOTALL)[0]


def rows_of(table: str) -> list[list[str]]:
    """A table's cells, without its head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]


def test_the_tables_of_the_digits_are_the_reports():
    """On its page all of it, in the README some rows."""
    report = first_table((ROOT / "metrics/report.md").read_text())
    page, readme = (
        re.search(r"<!-- table: .*?-->\n(.*?)\n<!-- /table -->", (ROOT / name).read_text(), re.DOTALL)[1].strip()
        for name in ("docs/digits.md", "README.md")
    )
    assert page == report
    shown, whole = readme.splitlines(), report.splitlines()
    assert shown[:2] == whole[:2]
    assert len(shown) > 8
    assert shown == [row for row in whole if row in shown], "its rows, in its order"


def test_the_results_tables_are_the_reports():
    page = (ROOT / "docs/results.md").read_text()
    shown = re.findall(r"<!-- table: the first table of (\S+), .*?-->\n(.*?)\n<!-- /table -->", page, re.DOTALL)
    assert len(shown) == 2
    for path, table in shown:
        assert table.strip() == first_table((ROOT / path).read_text()), path


@pytest.mark.parametrize("recipe", ["trec", "sst2", "newsgroups", "clinc", "intents"])
def test_the_tables_of_texts_are_the_reports(recipe):
    """Their first columns."""
    told = re.search(rf"<!-- {recipe}: .*?-->\n(.*?)\n<!-- /{recipe} -->", (ROOT / "docs/text.md").read_text(), re.DOTALL)[1]
    report = first_table((ROOT / f"docs/results/{recipe}/report.md").read_text())
    shown, whole = ([[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()] for table in (told, report))
    assert shown[0] == whole[0][:7]
    assert shown[2:] == [row[:7] for row in whole[2:]]


def test_what_draws_say_together_is_in_their_reports():
    page, folder = (ROOT / "docs/results.md").read_text(), ROOT / "docs/results/digits-noisy"
    for table, doses in ((over_draws.models, DOSES), (over_draws.differences, DOSES), (over_draws.rankings, DOSES[1:])):
        name = f"{table.__name__} of digits-noisy"
        told = re.search(rf"<!-- {name}: .*?-->\n(.*?)\n<!-- /{name} -->", page, re.DOTALL)[1]
        assert rows_of(told) == table(folder, list(doses), [0, 1, 2])


def test_a_mean_over_draws_is_one(tmp_path):
    """Two draws by hand: means of means, n - 1, and signs."""
    head = "| model | ID accuracy | own score | near AUROC | near FPR95 | far AUROC | x |\n|---|---|---|---|---|---|---|\n"
    for name, near in (("5", (80.0, 83.0)), ("5-draw-1", (84.0, 83.0))):
        rows = [f"| {'ab'[i]} | 90.0 ± 1.0 | energy | {value} ± 9.9 | 1.0 | 70.0 ± 0.0 | |" for i, value in enumerate(near)]
        (tmp_path / f"{name}.md").write_text(f"# x\n\n{head}" + "\n".join(rows) + "\n\nmore\n")
    assert over_draws.models(tmp_path, ["5"], [0, 1]) == [["a", "82.0 ± 2.8 / 70.0 ± 0.0, 90.0"], ["b", "83.0 ± 0.0 / 70.0 ± 0.0, 90.0"]]
    over = over_draws.differences(tmp_path, ["5"], [0, 1], pairs=[("a", "b")])
    assert over == [["a less b", "-1.0 ± 2.8 (1) / +0.0 ± 0.0 (0)"]]


def test_what_stopping_brings_on_cifar10_is_in_its_file():
    told = re.search(r"<!-- stopping: .*?-->\n(.*?)\n<!-- /stopping -->", (ROOT / "docs/results.md").read_text(), re.DOTALL)[1]
    found = json.loads((ROOT / "docs/results/cifar10-noisy/stopping.json").read_text())
    assert rows_of(told) == stopping.rows(found)


def test_the_doses_of_cifar10_are_those_of_the_reports():
    """Near / far AUROC, accuracy without its spread, of every model at every dose."""
    page = (ROOT / "docs/results.md").read_text()
    told = re.search(r"<!-- doses: from the reports in docs/results/cifar10-noisy, .*?-->\n(.*?)\n<!-- /doses -->", page, re.DOTALL)[1]
    found: dict[str, list[str]] = {}
    for dose in DOSES:
        table = first_table((ROOT / f"docs/results/cifar10-noisy/{dose}.md").read_text())
        for line in table.splitlines()[2:]:
            model, accuracy, score, near, _, far, *_ = [cell.strip() for cell in line.strip("|").split("|")]
            assert score == "energy"
            found.setdefault(model, []).append(f"{near} / {far}, {accuracy.split(' ')[0]}")
    assert {model: cells for model, *cells in rows_of(told)} == found


def test_who_finds_wrong_labels_in_cifar10_is_in_the_files():
    page = (ROOT / "docs/results.md").read_text()
    told = rows_of(re.search(r"<!-- rankings -->\n(.*?)\n<!-- /rankings -->", page, re.DOTALL)[1])
    files = [json.loads((ROOT / f"docs/results/cifar10-noisy/{dose}.mask.json").read_text()) for dose in DOSES[1:]]
    keys = ["early_doubt", "loss_over_epochs", "masked_loss_over_epochs", "aum", "masked_loss", "loss", "forgetting", "flip_rate"]
    assert len(told) == len(keys)
    for key, (_, *cells) in zip(keys, told, strict=True):
        for cell, found in zip(cells, files, strict=True):
            parts = [f"{100 * found[f'{kind}_{key}']:.1f} ± {100 * found[f'{kind}_{key}_std']:.1f}" for kind in ("auroc", "precision")]
            assert cell == " / ".join(parts), key


def test_the_regimes_are_those_of_the_table():
    """Those that validation picks, and those in which UM or UMAP is above its own control, found by its own row here."""
    page = (ROOT / "docs/results.md").read_text()
    picked, told = (
        rows_of(re.search(rf"<!-- regimes {kind}: .*?-->\n(.*?)\n<!-- /regimes {kind} -->", page, re.DOTALL)[1])
        for kind in ("picked", "above")
    )
    words = ("kind", "start", "rate", "level")
    with (ROOT / "docs/results/digits-noisy/regimes.csv").open(newline="", encoding="utf-8") as stream:
        rows = [{k: v if k in words else float(v) for k, v in row.items() if v} for row in csv.DictReader(stream)]
    rows = [row | {key: int(row[key]) for key in row if key.endswith("_above")} for row in rows]
    assert um_regimes.above(rows) == told
    assert [row for row in um_regimes.best(rows) if row[3] != "control"] == picked
    of = {tuple(row[key] for key in ("noise", "dropout", *words)): row for row in rows}
    held = [row for row in rows if row["level"] not in ("control", "-")]
    assert len(held) == 162
    for row in held:
        control = of[(*(row[key] for key in ("noise", "dropout", *words[:3])), "control")]
        for group in ("near", "far"):
            assert row[f"{group}_gain"] == pytest.approx(row[group] - control[group], abs=1.5e-4)


def test_a_gain_is_over_the_same_seeds_control():
    assert um_regimes.gained({"0": 0.5, "1": 0.75}, {"1": 0.25, "0": 0.75}) == pytest.approx([0.125, 0.53033, 1], abs=1e-5)


def test_the_epochs_are_those_of_the_table():
    told = re.search(r"<!-- epochs: .*?-->\n(.*?)\n<!-- /epochs -->", (ROOT / "docs/results.md").read_text(), re.DOTALL)[1]
    with (ROOT / "docs/results/cifar10-cpu/epochs.csv").open(newline="", encoding="utf-8") as stream:
        rows = [{key: value if key in ("run", "score") else float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    found = []
    for run, score in dict.fromkeys((row["run"], row["score"]) for row in rows):
        name, rate = run.split("-", 1)
        own = [row | {"epoch": int(row["epoch"])} for row in rows if (row["run"], row["score"]) == (run, score)]
        found.append(f"| {' | '.join(epochs.line(own, name, float(rate.replace('-', '.')), score))} |")
    assert told.strip().splitlines()[2:] == found


def test_every_file_and_key_that_the_pages_name_exists():
    readme = (ROOT / "README.md").read_text()
    pages = [(ROOT, readme), *((ROOT / "docs", path.read_text()) for path in sorted((ROOT / "docs").glob("*.md")))]
    for folder, text in pages:
        for path in re.findall(r"\]\((?!http)([^)]+)\)", text):
            assert (folder / path).is_file(), path
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    for key in re.findall(r"-S '?([\w.]+)=", "".join(text for _, text in pages)):
        section = params
        for part in key.split("."):
            section = section[part]

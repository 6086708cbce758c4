"""What the README and docs/results.md say is what the committed runs printed."""

import re

from conftest import ROOT
from ruamel.yaml import YAML


def first_table(text: str) -> str:
    return re.search(r"^\|.*?(?=\n\n)", text, re.MULTILINE | re.DOTALL)[0]


def test_the_readmes_table_is_the_reports():
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r"<!-- table: .*?-->\n(.*?)\n<!-- /table -->", readme, re.DOTALL)[1]
    assert shown.strip() == first_table((ROOT / "metrics/report.md").read_text())


def test_the_results_table_is_the_reports():
    shown = re.search(r"<!-- table: .*?-->\n(.*?)\n<!-- /table -->", (ROOT / "docs/results.md").read_text(), re.DOTALL)[1]
    assert shown.strip() == first_table((ROOT / "docs/results/cifar10-small/report.md").read_text())


def test_every_file_and_key_that_the_pages_name_exists():
    readme = (ROOT / "README.md").read_text()
    pages = [(ROOT, readme), *((ROOT / "docs", path.read_text()) for path in sorted((ROOT / "docs").glob("*.md")))]
    for folder, text in pages:
        for path in re.findall(r"\]\((?!http)([^)]+)\)", text):
            assert (folder / path).is_file(), path
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    for key in re.findall(r"-S '?([\w.]+)=", readme):
        section = params
        for part in key.split("."):
            section = section[part]

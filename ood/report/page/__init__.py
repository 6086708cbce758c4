"""The page: every section, rendered into one HTML file that needs nothing else."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from ood.config import Params
from ood.config.data import Data
from ood.report import comparison, data, detector, made, summary, unmask
from ood.report.blocks import Block, Section
from ood.report.dream import accuracy_table
from ood.report.measured import Measured
from ood.report.wording import sections_of_texts

FOLDER = Path(__file__).parent
TITLE = "Who knows what it doesn't know?"


def sections(measured: Measured, params: Params) -> list[Section]:
    """What the page holds, in order."""
    results, dreams = measured.shown, measured.dreams
    hard: list[Section] = []
    for role, title in (("corrupted", "under corruption"), ("shifted", "under natural shift")):
        table = accuracy_table(results, role)
        hard += [Section(role, f"ID accuracy {title}", [table])] if table else []
    dreamt: list[Block] = []
    if dreams is not None:
        dreamt = [dreams.text(), *dreams.tables(), *dreams.shown(), *dreams.traces(results, comparison.pairs_of(measured, params))]
    found = [
        Section("summary", "In short", summary.in_words(measured, params)),
        Section("data", "The data", data.blocks(measured.manifest, params)),
        Section("comparison", "Side by side", comparison.side_by_side(measured, params)),
        Section("controls", "Against their controls", comparison.controls(measured, params)),
        Section("detector", "The operating point", detector.blocks(measured, params)),
        Section("sets", "Every OOD set by itself", comparison.every_set(measured)),
        *hard,
        Section("masks", "What the masks saw", unmask.blocks(measured, params)),
        Section("epochs", "Which epoch?", unmask.over_epochs(measured)),
        Section("dreams", "What was dreamed", dreamt),
        Section("measures", "Measured otherwise", comparison.otherwise(measured)),
        Section("models", "Every model", comparison.each_model(measured)),
        Section("limits", "How far this reaches", summary.limits(measured, params)),
        Section("made", "How it was made", made.blocks(measured, params)),
    ]
    found = [section for section in found if section.blocks]
    return sections_of_texts(found, measured.names) if params[Data].kind == "text" else found


def html(parts: list[Section]) -> str:
    """One file, HTML 5. It fetches nothing, and a policy in it forbids that; the only script sorts tables."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    markdown = MarkdownIt("js-default").disable(["image", "link", "autolink"])  # nor HTML of its own: what is in a name stays text
    environment.filters["inline"] = lambda text: Markup(markdown.renderInline(text))
    environment.filters["svg"] = Markup
    environment.tests["of"] = lambda block, kind: type(block).__name__ == kind
    environment.filters["numeric"] = _numeric
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.jinja").render(
        title=TITLE, sections=parts, style=Markup((FOLDER / "page.css").read_text(encoding="utf-8")), script=Markup(script), allowed=allowed
    )


def _numeric(cells: Iterator[str]) -> bool:
    """Whether a column's cells are figures, which stand to the right: some are, and the rest are gaps."""
    said = [cell for cell in cells if cell not in ("-", "", "none", "not trained")]
    return bool(said) and all(cell.lstrip("+-")[:1].isdigit() for cell in said)

"""Report: what came out, for a terminal and as a page to look at; a picture of all methods side by side."""

from pathlib import Path

from ood.config import Params
from ood.files import published, write_text
from ood.report import page, terminal
from ood.report.comparison import overview
from ood.report.measured import Measured
from ood.report.pictures import methods_overview
from ood.report.tables import groups_in
from stages.console import Console

TEXT, PICTURE = Path("metrics/report.md"), Path("metrics/pictures/overview.png")
PAGE = Path("metrics/report.html")  # says when and in how many seconds it was made, so it is no output of DVC's, and git ignores it


def main() -> None:
    """Write metrics/report.md and metrics/report.html from what the other stages measured."""
    params, console = Params(), Console("report")
    measured = Measured.read(params)
    with published(TEXT, PAGE, PICTURE) as (text, whole, picture):
        write_text(text, terminal.text(measured, params))
        write_text(whole, page.html(page.sections(measured, params)))
        methods_overview(picture, overview(measured.shown), groups_in(measured.results))
    console.note(f"{PAGE} is the page, {TEXT} its beginning for a terminal")

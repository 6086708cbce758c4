"""Report: one page of tables that a person can read, and a picture of all methods side by side."""

from pathlib import Path

from ood.config import Params
from ood.files import published, write_text
from ood.report.measured import Measured
from ood.report.page import overview, page
from ood.report.pictures import methods_overview
from ood.report.tables import groups_in

PAGE = Path("metrics/report.md")
PICTURE = Path("metrics/pictures/overview.png")


def main() -> None:
    """Write metrics/report.md from what the other stages measured."""
    params = Params()
    measured = Measured.read(params)
    with published(PAGE, PICTURE) as (text, picture):
        write_text(text, page(measured, params))
        methods_overview(picture, overview(measured.shown), groups_in(measured.results))

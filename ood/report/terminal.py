"""The report as it stands on a terminal, metrics/report.md: what came out. The page has all of it."""

from textwrap import fill

from ood.config import Params
from ood.config.data import Data
from ood.config.training import Seeds
from ood.report import comparison, detector, summary, unmask
from ood.report.blocks import Block, Text
from ood.report.measured import Measured
from ood.report.tables import main_table
from ood.report.wording import block_of_texts

WIDTH = 140  # characters; the tables are about as wide
PAGE = (
    "Every set by itself, other rates, errors, atypical samples, dreams, curves, the papers' own protocols, settings and versions: "
    "`metrics/report.html`, which `python -m stages report` writes anew; the whole grid of scores: `metrics/scores.csv`."
)


def text(measured: Measured, params: Params) -> str:
    """Markdown, without a date or a time: the same figures are the same bytes."""
    found = measured.detector
    blocks: list[Block] = [
        *summary.what_was_asked(measured, params),
        comparison.how_to_read(measured, params),
        main_table(measured.shown, measured.withheld),
        Text("## Against their controls"),
        *comparison.controls(measured, params),
    ]
    if found is not None:
        blocks += [Text("## The detector"), detector.what_it_is(found, len(params[Seeds].root))]
        if measured.operating is not None:
            blocks += [
                detector.tested(found, measured.operating),
                detector.at_rates(found, measured.rates, [found.guarantee]),
                Text(f"{detector.missing(found)} {detector.price(params)}"),
            ]
    told = unmask.texts(measured, params)
    blocks += [Text("## What the masks saw"), *told] if told else []
    if measured.dreams is not None:
        blocks += [Text("## What was dreamed"), measured.dreams.text()]
    blocks += [Text("## The rest"), Text(PAGE)]
    if params[Data].kind == "text":
        blocks = [block_of_texts(block, measured.names) for block in blocks]
    return "\n\n".join(map(_wrapped, [Text("# Who knows what it doesn't know?"), *blocks])) + "\n"


def _wrapped(block: Block) -> str:
    """A block's text, paragraphs in lines that fit a terminal."""
    return fill(str(block), WIDTH, break_long_words=False, break_on_hyphens=False) if isinstance(block, Text) else str(block)

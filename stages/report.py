"""Report: one page of tables that a person can read, and a picture of all methods side by side."""

import json
from pathlib import Path

from ood import report
from ood.config import Params
from ood.config.dream import Diffusion, Embed, Judge, Painting, Synthesize
from ood.config.evaluation import Evaluate, Models, Report, Trace
from ood.config.methods import OE, UM, UMAP, Mask
from ood.config.training import Pretrain, Seeds
from ood.errors import InputError
from ood.files import write_text
from ood.report.dream import Dreams
from ood.report.pictures import methods_overview
from ood.report.tables import groups_in
from ood.tables import HISTORIES, last_mean

PAGE = Path("metrics/report.md")
PICTURE = Path("metrics/pictures/overview.png")


def measured(path: str, stage: str) -> dict:
    """What another stage wrote.

    Raises:
        InputError: it hasn't run.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: not there. Run `python -m stages {stage}` first (or `dvc repro`).")
    return json.loads(Path(path).read_text(encoding="utf-8"))


def main() -> None:
    """Write metrics/report.md from what the other stages measured."""
    params = Params()
    results = measured("data/evaluation/detail.json", "evaluate")
    results = {model: results[model] for model in params.section("models", Models)}
    manifest = measured("data/prepared/manifest.json", "prepare")
    masks = measured("metrics/mask.json", "mask")
    runs = params.section("trace", Trace).runs
    traces = {run: measured(f"metrics/trace/{run}.json", f"trace {run}") for run in runs}
    um, umap, oe = params.section("um", UM), params.section("umap", UMAP), params.section("oe", OE)
    estimate = masks["constraint"]
    bs = {"um": um.threshold, "umap": umap.threshold} | {name: um.threshold for name, run in oe.runs.items() if run.constraint == "um"}
    bs = {name: estimate if b is None else b for name, b in bs.items()} | {"control": None, "umap-control": None}
    levels = {name: (b, last_mean(HISTORIES / f"{name}.csv", "ce")) for name, b in sorted(bs.items())}
    embed, synthesize = params.section("embed", Embed), params.section("synthesize", Synthesize)
    dreams = Dreams.read(params.section("diffusion", Diffusion), params.section("judge", Judge).run, embed, synthesize, oe)
    text = report.page(
        results,
        manifest=manifest,
        masks=masks,
        levels=levels,
        traces=traces,
        dreams=dreams,
        pairs=params.section("report", Report).pairs,
        seeds=params.section("seeds", Seeds),
        evaluate=params.section("evaluate", Evaluate),
        settings=report.Settings(
            params.section("pretrain", Pretrain),
            params.section("mask", Mask),
            um,
            umap,
            oe,
            params.section("painting", Painting),
            embed,
            synthesize,
        ),
    )
    write_text(PAGE, text)
    shown = {model: summary for model, summary in results.items() if dreams is None or model not in dreams.meaningless}
    methods_overview(PICTURE, report.overview(shown), groups_in(results))

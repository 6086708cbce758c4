"""Estimate the loss constraint of a model through random masks, and rank its atypical samples, one named run each."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from ood.config import Params
from ood.config.methods import Mask
from ood.config.training import Common
from ood.data import packed
from ood.data.batches import FeatureSet, Images, PlainBatches, at_once, augmented_copy, generator_for, load
from ood.files import published, write_text
from ood.nets import store
from ood.tables import mean_where_known, pick, to_csv
from ood.training.devices import accelerator_for, placed
from ood.training.frozen import Head, features
from ood.unmask.atypical import Atypical, atypical_samples
from ood.unmask.constraint import estimate_constraint
from ood.unmask.kept import ESTIMATES
from ood.unmask.levels import estimated, figures_of, told
from ood.unmask.pictures import sheet_of_atypical
from stages.console import Console

FOLDER = Path("metrics/mask")
PICTURES = Path("metrics/pictures")


def main(run: Annotated[str, typer.Argument(help="one of mask.runs")]) -> None:
    """Mask every seed's trained net at random, several times: mean loss = the constraint, flips = the atypical samples."""
    params = Params()
    common, mask = Common.read(params), params[Mask]
    chosen = pick(mask.runs, run, "mask.runs")
    masking = mask.masking(chosen)
    accelerator = accelerator_for(common.runtime)
    device, precision = accelerator.device, accelerator.autocast
    train, items, classes = load("id/train", workers=common.runtime.workers), packed.item_names("id/train"), packed.info().classes
    console = Console(f"mask {run}")
    console.begin(len(common.seeds) * masking.masks, "mask")
    summaries, pictured = [], []
    with published(FOLDER / f"{run}.json", PICTURES / f"atypical-{run}.png", folder=ESTIMATES / run) as (folder, table, sheet):
        for seed in common.seeds:
            net, _ = store.load(store.MODELS / chosen.init / str(seed))
            placed(net, device, common.runtime)
            shown = augmented_copy(train, common.augment, generator_for(seed, 0, 4)) if masking.augment else train
            masked: nn.Module = net
            sets: list[Images | FeatureSet] = [shown, train]
            if masking.layers == "head":
                masked, sets = Head(net), [features(net, images, device, console) for images in (shown, train)]
            views, plain = (PlainBatches(images.to(device), at_once(device, train.side)) for images in sets)
            constraint = estimate_constraint(masked, views, masking.keep, masking.masks, seed, console.advance, precision)
            atypical = atypical_samples(masked, plain, masking.keep, masking.masks, seed, precision)
            found = estimated(constraint, float(atypical.loss.mean()), train.labels, mask.memorised)
            write_text(folder / f"{seed}.json", json.dumps(found | {"constraint": constraint._asdict()}, indent=1) + "\n")
            write_text(folder / f"atypical-{seed}.csv", to_csv(atypical.table(items, train.labels)))
            summaries.append(figures_of(found) | atypical.figures())
            pictured.append(atypical)
            console.step()
        total = mean_where_known(summaries)
        write_text(table, json.dumps(total, indent=1) + "\n")
        picture(sheet, train, pictured[0], classes, min(mask.pictured, len(train) // 2))
    for line in told(total, chosen.init, mask.memorised):
        console.note(line)


def picture(path: Path, train: Images, found: Atypical, classes: list[str], count: int) -> None:
    """The most and the least atypical images, and what masks do to each."""
    rows = zip(train.labels.tolist(), found.masked_loss.tolist(), found.flip_rate.tolist(), strict=True)
    captions = [(classes[label], f"{loss:.3f}  {flips:.0%}") for label, loss, flips in rows]
    order = found.order()
    shown = torch.cat([order[:count], order.flip(0)[:count]])
    sheet_of_atypical(path, train.some(shown).numpy(), [captions[i] for i in shown])

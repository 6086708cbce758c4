"""Estimate the loss constraint of a model through random masks, and rank its atypical samples, one named run each."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from torch import nn

from ood.config import Params
from ood.config.methods import Mask
from ood.config.training import Common
from ood.data import packed
from ood.data.batches import PlainBatches, at_once, augmented_copy, generator_for
from ood.data.sets import FeatureSet, Images, load
from ood.files import published, write_text
from ood.nets import store
from ood.tables import mean_where_known, pick, to_csv
from ood.training.devices import accelerator_for, placed
from ood.training.frozen import Head, features
from ood.unmask.atypical import atypical_samples
from ood.unmask.constraint import estimate_constraint
from ood.unmask.epochs import OverEpochs, at_epochs, over_epochs
from ood.unmask.estimates import estimated, figures_of, spreads, told
from ood.unmask.kept import ESTIMATES
from ood.unmask.pictures import sheet_of_atypical, shown_of
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
    homes = {seed: store.MODELS / chosen.init / str(seed) for seed in common.seeds}
    looks = {seed: store.kept_epochs(home)[:: -masking.epochs][::-1] if masking.epochs else [] for seed, home in homes.items()}
    console.begin(len(homes) * masking.masks + sum(map(len, looks.values())), "pass")
    true, summaries, pictured = packed.true_labels("id/train"), [], []
    validation = load("id/val", workers=common.runtime.workers) if masking.epochs else train
    with published(FOLDER / f"{run}.json", PICTURES / f"atypical-{run}.png", folder=ESTIMATES / run) as (folder, table, sheet):
        for seed, home in homes.items():
            advance = partial(console.advance, f"seed {seed}")
            net, _ = store.load(home)
            placed(net, device, common.runtime)
            shown = augmented_copy(train, common.augment, generator_for(seed, 0, 4)) if masking.augment else train
            masked: nn.Module = net
            sets: list[Images | FeatureSet] = [shown, train, validation]
            if masking.layers == "head":
                masked, sets = Head(net), [features(net, images, device, console) for images in (shown, train, validation)]
            views, plain, held_out = (PlainBatches(images.to(device), at_once(device, train.side)) for images in sets)
            constraint = estimate_constraint(masked, views, masking.keep, masking.masks, seed, advance, precision)
            atypical = atypical_samples(masked, plain, masking.keep, masking.masks, seed, precision)
            epochs: OverEpochs | None = None
            if looks[seed]:
                epochs = over_epochs(at_epochs(net, masked, looks[seed]), plain, held_out, masking.keep, seed, advance, precision)
            found = estimated(constraint, atypical, epochs, train.labels, true, mask.memorised)
            write_text(folder / f"{seed}.json", json.dumps(found | {"constraint": constraint._asdict()}, indent=1) + "\n")
            write_text(folder / f"atypical-{seed}.csv", to_csv(atypical.table(items, train.labels, epochs)))
            summaries.append(figures_of(found) | atypical.figures())
            pictured.append((atypical, epochs))
            console.step()
        total = mean_where_known(summaries) | spreads(summaries)
        write_text(table, json.dumps(total, indent=1) + "\n")
        shown_images = shown_of(*pictured[0], train.labels, classes, mask.pictured)
        texts = packed.texts("id/train")
        seen = train.some(shown_images.images).numpy() if texts is None else [texts[i] for i in shown_images.images.tolist()]
        sheet_of_atypical(sheet, shown_images, seen)
    for line in told(total, chosen.init, mask.memorised):
        console.note(line)

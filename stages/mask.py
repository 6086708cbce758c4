"""Estimate the loss constraint through random masks, and rank the atypical samples."""

import json
from pathlib import Path

import torch

from ood.config import Params
from ood.config.methods import Mask
from ood.config.training import Common
from ood.data import packed
from ood.data.batches import PlainBatches, at_once, augmented_copy, generator_for, load
from ood.files import in_place_of, write_text
from ood.nets import store
from ood.tables import mean_where_known, to_csv
from ood.training.devices import accelerator_for, placed
from ood.unmask.atypical import atypical_samples
from ood.unmask.constraint import ESTIMATES, estimate_constraint
from ood.unmask.pictures import sheet_of_atypical
from stages.console import Console

SUMMARY = Path("metrics/mask.json")
PICTURE = Path("metrics/pictures/atypical.png")


def main() -> None:
    """Mask every seed's trained net at random, several times: mean loss = the constraint, flips = the atypical samples."""
    params = Params()
    common, mask = Common.read(params), params[Mask]
    device = accelerator_for(common.runtime).device
    train, items, classes = load("id/train", workers=common.runtime.workers), packed.item_names("id/train"), packed.info().classes
    console = Console("mask")
    console.begin(len(common.seeds) * mask.masks, "mask")
    summaries, pictured = [], None
    with in_place_of(ESTIMATES) as folder:
        for seed in common.seeds:
            net, _ = store.load(store.MODELS / mask.run / str(seed))
            placed(net, device, common.runtime)
            shown = augmented_copy(train, common.augment, generator_for(seed, 0, 4)) if mask.augment else train
            views, plain = (PlainBatches(images.to(device), at_once(device, train.side)) for images in (shown, train))
            constraint = estimate_constraint(net, views, mask.keep, mask.masks, seed, console.advance)
            atypical = atypical_samples(net, plain, mask.keep, mask.masks, seed)
            dense = float(atypical.loss.mean())
            record = {"constraint": constraint._asdict(), "dense_loss": dense, "memorised": dense < mask.memorised}
            write_text(folder / f"{seed}.json", json.dumps(record, indent=1) + "\n")
            write_text(folder / f"atypical-{seed}.csv", to_csv(atypical.table(items, train.labels)))
            figures = {
                "constraint": constraint.mean,
                "constraint_std_over_masks": constraint.std,
                "dense_loss": dense,
                "memorised": float(dense < mask.memorised),
            }
            summaries.append(figures | atypical.figures())
            pictured = pictured or atypical
            console.step()
    total = mean_where_known(summaries)
    write_text(SUMMARY, json.dumps(total, indent=1) + "\n")
    rows = zip(train.labels.tolist(), pictured.masked_loss.tolist(), pictured.flip_rate.tolist(), strict=True)
    captions = [(classes[label], f"{loss:.3f}  {flips:.0%}") for label, loss, flips in rows]
    order, count = pictured.order(), min(mask.pictured, len(train) // 2)
    shown = torch.cat([order[:count], order.flip(0)[:count]])
    sheet_of_atypical(PICTURE, train.some(shown).numpy(), [captions[i] for i in shown])
    console.note(f"loss constraint {total['constraint']:.4f} +- {total['constraint_std_over_masks']:.4f}, dense {total['dense_loss']:.4f}")
    if total["memorised"] < 1:
        console.note(
            f"the base model has not memorised its training set: loss {total['dense_loss']:.4f} is not below mask.memorised = "
            f"{mask.memorised}. UM has little to forget; the constraint means little. Train {mask.run} longer."
        )

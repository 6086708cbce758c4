"""cleanlab's way of finding wrong labels, the rival of masks and of the first epochs: networks that have not seen the image they judge.

    python benchmarks/cross_validated.py [--folds 5]      in a workspace where `prepare` has run with data.id.label_noise

Every fold's networks are trained as pretrain.runs.ce is, on the other folds; cleanlab ranks by the probability of the given label. Printed
are AUROC and precision at the true share, mean and standard deviation over seeds, as `mask` writes them of its own rankings, and the time.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from cleanlab.rank import get_label_quality_scores
from sklearn.model_selection import StratifiedKFold

from ood.config import Params
from ood.config.nets import Net
from ood.config.training import Common, Pretrain
from ood.data import packed
from ood.data.batches import PlainBatches, TrainingBatches, at_once, generator_for
from ood.data.sets import load, some
from ood.nets.store import spec_for
from ood.progress import Silent
from ood.training.devices import accelerator_for
from ood.training.loop import Trainer
from ood.training.objectives import Objective
from ood.unmask.constraint import masked_logits
from ood.unmask.rankings import found


def judged(seed: int, folds: int, params: Params) -> np.ndarray:
    """1 - cleanlab's quality of every training label."""
    common, pretrain = Common.read(params), params[Pretrain]
    recipe, accelerator = pretrain.runs["ce"].over(pretrain.training), accelerator_for(common.runtime)
    train = load("id/train")
    labels = train.labels.numpy()
    probabilities = np.zeros((len(labels), len(packed.info().classes)))
    for _, held in StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels):
        torch.manual_seed(generator_for(seed, 0, 2).initial_seed())
        run, index = pretrain.runs["ce"], torch.from_numpy(held)
        net = spec_for(run.net or params[Net], packed.info(), normalize=False).build()
        batches = TrainingBatches(train, recipe.batch_size, run.augment or common.augment, strong=recipe.strong).without(index)
        if net.sees:
            net.see(some(batches.inliers))
        with tempfile.TemporaryDirectory() as folder:
            Trainer(accelerator, common.runtime, recipe, Path(folder), Silent()).fit(net, Objective(), batches, seed)
        images = train.take(index).to(accelerator.device)
        logits, _ = masked_logits(net.eval(), PlainBatches(images, at_once(accelerator.device, train.side)), {}, accelerator.autocast)
        probabilities[held] = logits.double().softmax(1).numpy()
    return 1 - get_label_quality_scores(labels, probabilities, method="self_confidence")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=5)
    folds, params = parser.parse_args().folds, Params()
    true = packed.true_labels("id/train")
    if true is None:
        raise SystemExit("No label is wrong on purpose here: set data.id.label_noise and run `python -m stages prepare`.")
    wrong, start = packed.labels("id/train") != true, time.monotonic()
    seeds = Common.read(params).seeds
    answers = [found({"cross-validated": torch.from_numpy(judged(seed, folds, params))}, wrong)["cross-validated"] for seed in seeds]
    for figure in ("auroc", "precision"):
        values = np.array([answer[figure] for answer in answers])
        print(f"{figure}: {100 * values.mean():.1f} +- {100 * values.std(ddof=1) if len(values) > 1 else 0:.1f}")
    print(f"{time.monotonic() - start:.0f} s for {len(seeds)} seeds of {folds} folds")


if __name__ == "__main__":
    main()

"""cleanlab's way of finding wrong labels, the rival of masks and of the first epochs: networks that have not seen the image they judge.

    python benchmarks/cross_validated.py [--folds 5] [--stopped]      in a workspace where `prepare` has run with data.id.label_noise

Every fold's networks are trained as pretrain.runs.ce is, on the other folds, to the end, or (--stopped) judge by their first epoch with
fewest errors on ID validation, whose labels are right; cleanlab ranks by the probability of the given label. Printed
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
from ood.data.sets import Images, load, some
from ood.nets import Classifier
from ood.nets.store import load_weights, spec_for
from ood.progress import Silent
from ood.training.devices import accelerator_for
from ood.training.loop import Trainer
from ood.training.objectives import Objective
from ood.unmask.constraint import masked_logits
from ood.unmask.rankings import found


def judged(seed: int, folds: int, params: Params, *, stopped: bool) -> tuple[np.ndarray, list[int]]:
    """1 - cleanlab's quality of every training label, and the epoch that each fold's network was taken from."""
    common, pretrain = Common.read(params), params[Pretrain]
    recipe, accelerator = pretrain.runs["ce"].over(pretrain.training), accelerator_for(common.runtime)
    train = load("id/train")
    labels = train.labels.numpy()
    probabilities, epochs = np.zeros((len(labels), len(packed.info().classes))), []

    def told(net: Classifier, images: Images) -> torch.Tensor:
        batches = PlainBatches(images.to(accelerator.device), at_once(accelerator.device, train.side))
        return masked_logits(net.eval(), batches, {}, accelerator.autocast)[0]

    validation = load("id/val")
    for _, held in StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels):
        torch.manual_seed(generator_for(seed, 0, 2).initial_seed())
        run, index = pretrain.runs["ce"], torch.from_numpy(held)
        net = spec_for(run.net or params[Net], packed.info(), normalize=False).build()
        batches = TrainingBatches(train, recipe.batch_size, run.augment or common.augment, strong=recipe.strong).without(index)
        if net.sees:
            net.see(some(batches.inliers))
        with tempfile.TemporaryDirectory() as folder:
            Trainer(accelerator, common.runtime, recipe, Path(folder), Silent(), keep=lambda _: stopped).fit(
                net, Objective(), batches, seed
            )
            errors = []
            for kept in sorted((Path(folder) / "epochs").glob("*.safetensors")):
                load_weights(net, kept)
                errors.append(int((told(net, validation).argmax(1) != validation.labels).sum()))
            epochs.append(errors.index(min(errors)) + 1 if errors else recipe.epochs)
            if errors:
                load_weights(net, Path(folder) / f"epochs/{epochs[-1]:03d}.safetensors")
        probabilities[held] = told(net, train.take(index)).double().softmax(1).numpy()
    return 1 - get_label_quality_scores(labels, probabilities, method="self_confidence"), epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--stopped", action="store_true")
    given, params = parser.parse_args(), Params()
    true = packed.true_labels("id/train")
    if true is None:
        raise SystemExit("No label is wrong on purpose here: set data.id.label_noise and run `python -m stages prepare`.")
    wrong, start = packed.labels("id/train") != true, time.monotonic()
    seeds = Common.read(params).seeds
    each = [judged(seed, given.folds, params, stopped=given.stopped) for seed in seeds]
    answers = [found({"cross-validated": torch.from_numpy(doubt)}, wrong)["cross-validated"] for doubt, _ in each]
    for figure in ("auroc", "precision"):
        values = np.array([answer[figure] for answer in answers])
        print(f"{figure}: {100 * values.mean():.1f} +- {100 * values.std(ddof=1) if len(values) > 1 else 0:.1f}")
    print(f"epochs: {sorted(epoch for _, epochs in each for epoch in epochs)}")
    print(f"{time.monotonic() - start:.0f} s for {len(seeds)} seeds of {given.folds} folds")


if __name__ == "__main__":
    main()

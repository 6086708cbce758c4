"""What a question mark does for OOD detection on TREC, whose texts are questions.

Run it where the recipe trec has run: `python benchmarks/questions.py [MODEL...]`. AUROC in percent, mean and deviation over seeds: of the
rule 'ends in ?' alone; of a model's largest softmax probability against all outliers, and against those that are questions.
"""

import sys

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from ood.data import packed
from ood.evaluation.features import FEATURES

LEAST = 30  # questions that a set must hold to be shown


def asks(name: str) -> NDArray[np.bool_]:
    """Which texts of a set end in a question mark."""
    return np.array([text.rstrip().endswith("?") for text in packed.texts(name) or []])


def auroc(inside: NDArray, outside: NDArray) -> float:
    """In percent; larger scores are stranger."""
    return 100 * float(roc_auc_score(np.repeat([0, 1], [len(inside), len(outside)]), np.concatenate([inside, outside])))


def main(models: list[str]) -> None:
    """Print a table."""
    sets = [name for group in ("near", "far") for name in packed.names(group)]
    known = asks("id/test")
    print(f"{known.mean():.1%} of id/test end in a question mark")
    print(f"| set | questions | ends in ? | {' | '.join(f'{model} | {model}, questions' for model in models)} |")
    print("|" + " --- |" * (3 + 2 * len(models)))
    columns: list[list[float]] = []
    for name in sets:
        which = asks(name)
        row, cells = [auroc(-known.astype(float), -which.astype(float))], []
        for model in models:
            found = []
            for path in sorted((FEATURES / model).glob("*.safetensors")):
                tensors = load_file(path)
                inside, outside = (-tensors[f"{one}:logits"].double().softmax(1).max(1).values.numpy() for one in ("id/test", name))
                found.append([auroc(inside, outside), auroc(inside, outside[which]) if which.sum() >= LEAST else np.nan])
            mean, spread = np.mean(found, 0), np.std(found, 0, ddof=min(1, len(found) - 1))
            row += mean.tolist()
            cells += ["-" if np.isnan(m) else f"{m:.1f} ± {s:.1f}" for m, s in zip(mean, spread, strict=True)]
        columns.append(row)
        print(f"| {name} | {int(which.sum())} of {len(which)} | {row[0]:.1f} | {' | '.join(cells)} |")
    means = np.nanmean(columns, 0)
    print(f"| mean | | {' | '.join(f'{m:.1f}' for m in means)} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:] or ["ce", "no-outliers", "oe"])

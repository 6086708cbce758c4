"""What several draws of wrong labels say together, from the files that doses.py has kept: the tables of docs/results.md.

    python benchmarks/over_draws.py docs/results/digits-noisy [--doses 0 10 20 confusable-20] [--draws 0 1 2]

A report's figure is a mean over seeds; here stand mean and standard deviation (n - 1) over draws, and of differences between two models
(the same seeds and images) also for how many draws they are more than 0.
"""

import argparse
import json
import re
import statistics
from collections.abc import Iterable
from pathlib import Path

from doses import named

DOSES = ("0", "10", "20", "confusable-20")
PAIRS = (
    ("stopped", "ce"), ("stopped-id", "ce"), ("um", "control"), ("umap", "umap-control"), ("forget-early", "forget-random"),
    ("forget-masked", "forget-random"), ("forget-loss", "forget-random"), ("forget-early", "control"), ("stopped-id", "forget-early"),
)  # fmt: skip
RANKINGS = (
    "early_doubt", "loss_over_epochs", "masked_loss_over_epochs", "aum", "loss", "masked_loss", "forgetting", "flip_rate",
)  # fmt: skip
Figures = dict[str, list[tuple[float, float, float]]]  # model -> near, far, accuracy of every draw


def names(dose: str, draws: list[int]) -> list[str]:
    """The files of a dose, without their endings."""
    return [named(dose, draw) for draw in draws]


def figures(folder: Path, dose: str, draws: list[int]) -> Figures:
    """From the first table of every draw's report: AUROC of the own score, near and far, and ID accuracy, in percent."""
    found: Figures = {}
    for name in names(dose, draws):
        text = (folder / f"{name}.md").read_text(encoding="utf-8")
        for line in re.search(r"^\|.*?(?=\n\n)", text, re.MULTILINE | re.DOTALL)[0].splitlines()[2:]:  # type: ignore[index]
            model, accuracy, _, near, _, far, *_ = [cell.strip() for cell in line.strip("|").split("|")]
            found.setdefault(model, []).append(tuple(float(cell.split(" ")[0]) for cell in (near, far, accuracy)))  # type: ignore[arg-type]
    return found


def spread(values: list[float], sign: str = "") -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{sign}.1f} ± {deviation:.1f}"


def models(folder: Path, doses: list[str], draws: list[int]) -> list[list[str]]:
    """A row a model, a cell a dose: near / far, accuracy."""
    each = [figures(folder, dose, draws) for dose in doses]
    rows = []
    for model in each[0]:
        cells = [list(zip(*of[model], strict=True)) for of in each]
        rows.append([model, *(f"{spread([*near])} / {spread([*far])}, {statistics.mean(right):.1f}" for near, far, right in cells)])
    return rows


def differences(folder: Path, doses: list[str], draws: list[int], pairs: Iterable[tuple[str, str]] = PAIRS) -> list[list[str]]:
    """A row a pair, a cell a dose: near / far, each with the number of draws in which it is more than 0."""
    each = [figures(folder, dose, draws) for dose in doses]
    rows = []
    for one, other in pairs:
        cells = []
        for of in each:
            gains = [[our[place] - its[place] for our, its in zip(of[one], of[other], strict=True)] for place in (0, 1)]
            cells.append(" / ".join(f"{spread(values, '+')} ({sum(value > 0 for value in values)})" for values in gains))
        rows.append([f"{one} less {other}", *cells])
    return rows


def rankings(folder: Path, doses: list[str], draws: list[int]) -> list[list[str]]:
    """A row a ranking, a cell a dose: AUROC and precision in finding the wrong labels, in percent."""
    rows = []
    for key in RANKINGS:
        cells = []
        for dose in doses:
            files = [json.loads((folder / f"{name}.mask.json").read_text(encoding="utf-8")) for name in names(dose, draws)]
            cells.append(" / ".join(spread([100 * file[f"{kind}_{key}"] for file in files]) for kind in ("auroc", "precision")))
        rows.append([key, *cells])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--doses", nargs="+", default=[*DOSES])
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    wrong = [dose for dose in given.doses if dose != "0"]
    for table, doses in ((models, given.doses), (differences, given.doses), (rankings, wrong)):
        for row in ([table.__name__, *doses], ["---"] * (1 + len(doses)), *table(given.folder, doses, given.draws)):
            print(f"| {' | '.join(row)} |")
        print()


if __name__ == "__main__":
    main()

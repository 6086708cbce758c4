"""Does an intermediate epoch of pretraining detect better than the last? Over learning rates, with and without crops, energy and MSP.

    python benchmarks/epochs.py --downloads downloads [--rates 0.4 0.2 0.1] [--epochs 10] [--seeds 0 1]
        [--work FOLDER] [--out FILE.csv] [--picture FILE.png]

Unleashing Mask's first observation (its Figure 1) on the data and the network of the recipe cifar10-cpu: for every rate one training that
is mirrored and cropped, and one that is mirrored alone, all epochs kept; each epoch is looked at by both scores. A row of the table lays
the epoch that validation OOD picks beside the last one. Stages run as plain commands, two at a time. With --work the folder is kept, and
the same command goes on where it was stopped.
"""

import argparse
import csv
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from workspaces import parameters, stage, write

from ood.drawing import COLOURS, plt, save

SCORES = ("energy", "msp")
GROUPS = ("validation", "near", "far")
AUGMENTS = {"crops": {"pad": 2, "flip": True}, "mirrored": {"flip": True}}


def settings(rates: list[float], epochs: int, seeds: list[int]) -> tuple[dict, dict[str, tuple[str, float]]]:
    """The recipe's with a run for every combination; run -> augmentation and rate."""
    params = parameters("cifar10-cpu")
    runs = {f"{name}-{str(rate).replace('.', '-')}": (name, rate) for name in AUGMENTS for rate in rates}
    params["seeds"], params["pretrain"]["keep_epochs"], params["trace"]["collapse"] = seeds, 1, False
    params["pretrain"]["runs"] = {run: {"augment": AUGMENTS[name], "lr": rate, "epochs": epochs} for run, (name, rate) in runs.items()}
    for section in ("epochs", "trace", "mask", "um", "umap", "embed", "synthesize", "oe"):
        params[section] = {} if section == "epochs" else params[section] | {"runs": {}}
    params["models"], params["report"]["pairs"], params["detector"]["model"] = dict.fromkeys(runs, "energy"), {}, None
    params["diffusion"]["enabled"], params["data"]["world"], params["data"]["corrupted"] = False, {}, {}
    return params, runs


def rows_of(folder: Path, params: dict, run: str) -> list[dict]:
    """Train a run and look at its epochs: a row for every seed, epoch and score. What has been looked at is read back."""
    finished = folder / f"{run}.json"
    if finished.exists():
        return json.loads(finished.read_text(encoding="utf-8"))
    stage(folder, f"pretrain {run}")
    with (folder / f"metrics/training/{run}.csv").open(newline="", encoding="utf-8") as stream:
        losses = {(row["seed"], row["epoch"]): row["loss"] for row in csv.DictReader(stream)}
    rows = []
    for score in SCORES:
        own = folder / f"{run}-{score}"  # trace writes one table a run: each score has a folder that sees the same data
        (own / "metrics").mkdir(parents=True, exist_ok=True)
        for shared in ("data", "metrics/training"):
            if not (own / shared).exists():
                (own / shared).symlink_to(folder / shared)
        write(own, params | {"trace": params["trace"] | {"runs": {run: score}}})
        stage(own, f"trace {run}")
        with (own / f"metrics/trace/{run}.csv").open(newline="", encoding="utf-8") as stream:
            found = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]
        for row in found:
            seed, epoch = int(row["seed"]), int(row["epoch"])
            aurocs = {group: row[f"{group}_auroc"] for group in GROUPS}
            rows.append({"run": run, "score": score, "seed": seed, "epoch": epoch, "loss": float(losses[str(seed), str(epoch)]), **aurocs})
    finished.write_text(json.dumps(rows), encoding="utf-8")
    return rows


def grid(rows: list[dict], group: str) -> np.ndarray:
    """AUROC in percent, (seeds, epochs)."""
    seeds, epochs = sorted({row["seed"] for row in rows}), sorted({row["epoch"] for row in rows})
    at = {(row["seed"], row["epoch"]): 100 * row[group] for row in rows}
    return np.array([[at[seed, epoch] for epoch in epochs] for seed in seeds])


def spread(values: np.ndarray) -> str:
    """Mean and standard deviation over seeds, signed."""
    return f"{values.mean():+.1f}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else "")


def line(rows: list[dict], name: str, rate: float, score: str) -> list[str]:
    """What is said of one training by one score."""
    last = max(row["epoch"] for row in rows)
    loss = np.mean([row["loss"] for row in rows if row["epoch"] == last])
    picked = int(grid(rows, "validation").mean(0).argmax())
    cells = [name, f"{rate:g}", score, f"{loss:.3f}", f"{picked + 1} of {last}"]
    for group in GROUPS:
        found = grid(rows, group)
        gain = found[:, picked] - found[:, -1]
        cells.append(f"{found[:, picked].mean():.1f} / {found[:, -1].mean():.1f} ({spread(gain)})")
        if group != "validation":
            cells.append(str(int(found.mean(0).argmax()) + 1))
    return cells


def draw(path: Path, rows: list[dict], runs: dict[str, tuple[str, float]]) -> None:
    """Near- and far-AUROC over epochs, a panel for every training, a thin line for every seed."""
    rates = sorted({rate for _, rate in runs.values()}, reverse=True)
    figure, panels = plt.subplots(len(AUGMENTS), len(rates), figsize=(4 * len(rates), 6), sharex=True, sharey=True, squeeze=False)
    for run, (name, rate) in runs.items():
        panel = panels[list(AUGMENTS).index(name), rates.index(rate)]
        panel.set_title(f"{name}, rate {rate:g}")
        for score, style in zip(SCORES, ("-", "--"), strict=True):
            for group, colour in ((group, COLOURS[group]) for group in GROUPS[1:]):
                found = grid([row for row in rows if (row["run"], row["score"]) == (run, score)], group)
                epochs = np.arange(1, found.shape[1] + 1)
                panel.plot(epochs, found.T, style, color=colour, linewidth=0.6, alpha=0.6)
                panel.plot(epochs, found.mean(0), style, color=colour, label=f"{group}, {score}")
    panels[0, 0].legend(fontsize=8)
    for panel in panels[:, 0]:
        panel.set_ylabel("AUROC (%)")
    for panel in panels[-1]:
        panel.set_xlabel("epoch")
    figure.tight_layout()
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--downloads", type=Path, required=True)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.4, 0.2, 0.1])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    params, runs = settings(given.rates, given.epochs, given.seeds)
    with tempfile.TemporaryDirectory() as where:
        folder = (given.work or Path(where)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "downloads").exists():
            (folder / "downloads").symlink_to(given.downloads.resolve())
        asked = json.dumps([params, given.epochs, given.seeds])
        before = folder / "asked.json"
        if before.exists() and before.read_text(encoding="utf-8") != asked:
            raise SystemExit(f"{folder} holds the figures of other settings. Name another folder.")
        before.write_text(asked, encoding="utf-8")
        write(folder, params)
        if not (folder / "data/prepared").exists():
            stage(folder, "prepare")
        with ThreadPoolExecutor(2) as pool:
            rows = [row for found in pool.map(lambda run: rows_of(folder, params, run), runs) for row in found]
    if given.out:
        with given.out.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({k: f"{v:.6f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    if given.picture:
        draw(given.picture, rows, runs)
    print("AUROC of the epoch that validation picks / of the last (difference over seeds); test's own best epoch\n")
    print("| | rate | score | training loss | picked epoch | validation | near | best near | far | best far |")
    print("| --- " * 10 + "|")
    for run, (name, rate) in runs.items():
        for score in SCORES:
            cells = line([row for row in rows if (row["run"], row["score"]) == (run, score)], name, rate, score)
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

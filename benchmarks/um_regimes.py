"""Is there a regime in which Unleashing Mask's batch-mean constraint, or UMAP, beats its control? The whole grid, chosen on validation.

    python benchmarks/um_regimes.py [--noise 0.0 0.1 0.2] [--dropout 0.0 0.3] [--seeds 0 1 2] [--out FILE.csv]

The recipe digits-noisy, with runs for every combination of: what UM starts from (an early epoch, a middle one, the last), the level b (the
mask stage's estimate on that start, or a multiple of it), the learning rate (of pretraining, a tenth of it), UM or UMAP; and of each start,
rate and kind the control, the same training with plain cross-entropy. Everything runs as plain stages, two at a time; a table of AUROC
(energy) follows: on validation OOD, by which a regime is picked, and, of what was picked and of its control, near and far. Then the
regimes whose near- and far-AUROC are above their own control's: by how much, seed by seed, and for how many seeds.
"""

import argparse
import csv
import json
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from workspaces import parameters, stage, write

from ood.evaluation.groups import group_means

STARTS = {"early": 6, "middle": 20, "last": 60}  # epochs of pretraining
LEVELS = {"b": 1.0, "3b": 3.0, "10b": 10.0}  # multiples of the estimate
RATES = {"fast": 0.1, "slow": 0.01}
GROUPS = ("validation", "near", "far")
GAINS = [f"{group}_{what}" for group in ("near", "far") for what in ("gain", "std", "above")]
COLUMNS = ("noise", "dropout", "kind", "start", "rate", "level", "b", *GROUPS, "accuracy", *GAINS)


def settings(noise: float, dropout: float, seeds: list[int]) -> dict:
    """The recipe's, with a run for every combination."""
    params = parameters("digits-noisy")
    params["seeds"], params["data"]["id"]["label_noise"]["share"], params["net"]["dropout"] = seeds, noise, dropout
    params["epochs"] = {start: {"run": "ce", "epoch": epoch} for start, epoch in STARTS.items()}
    params["mask"] |= {"epochs": None, "runs": {start: {"init": start} for start in STARTS}}
    params["um"]["runs"], params["umap"]["runs"], params["trace"]["runs"] = {}, {}, {}
    params["models"] = dict.fromkeys(STARTS, "energy")
    params["report"]["pairs"], params["detector"]["model"] = {}, None
    params["evaluate"]["bootstrap"], params["features"]["odin"] = 0, None
    params["scores"]["used"] = ["energy"]
    return params


def add_runs(params: dict, estimates: dict[str, float]) -> dict[str, tuple[str, str, str, str]]:
    """Put the runs into params; returns run -> kind, start, rate, level."""
    found = {}
    for kind in ("um", "umap"):
        for start, estimate in estimates.items():
            for rate, lr in RATES.items():
                if (kind, rate) == ("umap", "slow"):
                    continue  # a mask that learns slowly stays the random one it was
                for level, times in {"control": None, **LEVELS}.items():
                    name = f"{kind}-{start}-{rate}-{level}"
                    run = {"init": start, "lr": lr, "constraint": "none" if times is None else start}
                    params[kind]["runs"][name] = run | ({} if times is None else {"threshold": min(2.0, times * estimate)})
                    params["models"][name] = "energy"
                    found[name] = (kind, start, rate, level)
    return found


def regimes(noise: float, dropout: float, seeds: list[int]) -> list[dict]:
    """A row for every combination; gains over the control of the same start, their deviation, and how many seeds have one."""
    with tempfile.TemporaryDirectory() as where:
        folder, params = Path(where), settings(noise, dropout, seeds)
        write(folder, params)
        for command in ("prepare", "pretrain ce", *(f"{key} {start}" for key in ("epoch", "mask") for start in STARTS)):
            stage(folder, command)
        estimates = {start: json.loads((folder / f"metrics/mask/{start}.json").read_text())["constraint"] for start in STARTS}
        runs = add_runs(params, estimates)
        write(folder, params)

        def train(name: str) -> None:
            stage(folder, f"{runs[name][0]} {name}")
            stage(folder, f"features {name}")

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(train, runs))
            list(pool.map(lambda start: stage(folder, f"features {start}"), STARTS))
        stage(folder, "evaluate")
        detail = json.loads((folder / "data/evaluation/detail.json").read_text())
        rows = []
        for name, said in {**{start: ("as it was", start, "-", "-") for start in STARTS}, **runs}.items():
            ours = aurocs(detail[name])
            b = params["um" if said[0] == "um" else "umap"]["runs"].get(name, {}).get("threshold")
            accuracy = statistics.mean(seed["id"]["test"]["accuracy"] for seed in detail[name]["seeds"].values())
            row = [noise, dropout, *said, b, *(statistics.mean(ours[group].values()) for group in GROUPS), accuracy]
            if b is not None:
                control = aurocs(detail["-".join((*said[:3], "control"))])
                for group in ("near", "far"):
                    gains = [our - control[group][seed] for seed, our in ours[group].items()]
                    row += [statistics.mean(gains), statistics.stdev(gains) if len(gains) > 1 else 0.0, sum(gain > 0 for gain in gains)]
            rows.append(dict(zip(COLUMNS, row, strict=False)))
    return rows


def aurocs(model: dict) -> dict[str, dict[str, float]]:
    """The energy's AUROC of a model: group -> seed -> value."""
    means = {name: group_means(seed["grid"]["energy"]) for name, seed in model["seeds"].items()}
    return {group: {seed: each[group]["auroc"] for seed, each in means.items()} for group in GROUPS}


def above(rows: list[dict]) -> list[list[str]]:
    """The regimes that are above their control on both kinds of OOD, in the mean over seeds."""
    table = []
    for row in rows:
        if "near_gain" in row and row["near_gain"] > 0 and row["far_gain"] > 0:
            gains = [f"{100 * row[f'{g}_gain']:+.1f} ± {100 * row[f'{g}_std']:.1f} ({row[f'{g}_above']})" for g in ("near", "far")]
            said = [f"{row['noise']:.0%}", str(row["dropout"]), row["kind"], row["level"], row["start"], row["rate"]]
            table.append([*said, *gains, f"{100 * row['accuracy']:.1f}"])
    return table


def best(rows: list[dict]) -> list[list[str]]:
    """Of every noise, dropout and kind: the regime that validation picks and its gains, beside the control that validation picks."""
    table = []
    for key in dict.fromkeys((row["noise"], row["dropout"], row["kind"]) for row in rows if row["kind"] != "as it was"):
        ours = [row for row in rows if (row["noise"], row["dropout"], row["kind"]) == key]
        for held in (True, False):
            picked = max((row for row in ours if (row["level"] != "control") is held), key=lambda row: row["validation"])
            figures = [f"{100 * picked[name]:.1f}" for name in ("validation", "near", "far", "accuracy")]
            gains = [f"{100 * picked[f'{group}_gain']:+.1f}" if held else "" for group in ("near", "far")]
            table.append([f"{key[0]:.0%}", str(key[1]), key[2], picked["level"], picked["start"], picked["rate"], *figures, *gains])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.1, 0.2])
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.0, 0.3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for noise in given.noise:
        for dropout in given.dropout:
            rows += regimes(noise, dropout, given.seeds)
            print(f"{noise:.0%} wrong labels, dropout {dropout}: done", file=sys.stderr, flush=True)
    if given.out:
        with given.out.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    print("| wrong labels | dropout | kind | level | start | rate | validation | near | far | accuracy | near less control | far |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for line in best(rows):
        print(f"| {' | '.join(line)} |")
    print("\nAbove their own control on both (seeds for which they are):\n")
    print("| wrong labels | dropout | kind | level | start | rate | near | far | accuracy |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for line in above(rows):
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()

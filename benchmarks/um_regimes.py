"""Is there a regime in which Unleashing Mask's batch-mean constraint, or UMAP, beats its control? The whole grid, chosen on validation.

    python benchmarks/um_regimes.py [--noise 0.0 0.1 0.2] [--dropout 0.0 0.3] [--seeds 0 1 2] [--out FILE.csv]
    python benchmarks/um_regimes.py --recipe cifar10-noisy --downloads downloads --noise 0.2 --dropout 0.0 --seeds 0 1 --levels b

A recipe of wrong labels, with runs for every combination of: what UM starts from (an early epoch, a middle one, the last), the level b (the
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

from workspaces import make, parameters, stage, write

from ood.evaluation.groups import group_means

STARTS = {  # epochs of pretraining
    "digits-noisy": {"early": 6, "middle": 20, "last": 60},
    "cifar10-noisy": {"early": 8, "middle": 20, "last": 40},
}
LEVELS = {"b": 1.0, "3b": 3.0, "10b": 10.0}  # multiples of the estimate
RATES = {"fast": 1.0, "slow": 0.1}  # of pretraining's
GROUPS = ("validation", "near", "far")
GAINS = [f"{group}_{what}" for group in ("near", "far") for what in ("gain", "std", "above")]
COLUMNS = ("noise", "dropout", "kind", "start", "rate", "level", "b", *GROUPS, "accuracy", *GAINS)


def settings(recipe: str, starts: dict[str, int], noise: float, dropout: float, seeds: list[int]) -> dict:
    """The recipe's, with these starts and no run yet."""
    params = parameters(recipe)
    params["seeds"], params["data"]["id"]["label_noise"]["share"], params["net"]["dropout"] = seeds, noise, dropout
    params["epochs"] = {start: {"run": "ce", "epoch": epoch} for start, epoch in starts.items()}
    params["mask"] |= {"epochs": None, "runs": {start: {"init": start} for start in starts}}
    params["um"]["runs"], params["umap"]["runs"], params["trace"]["runs"] = {}, {}, {}
    params["models"] = dict.fromkeys(starts, "energy")
    params["report"]["pairs"], params["detector"]["model"] = {}, None
    params["evaluate"]["bootstrap"], params["features"]["odin"] = 0, None
    params["scores"]["used"] = ["energy"]
    return params


def add_runs(params: dict, estimates: dict[str, float], levels: list[str]) -> dict[str, tuple[str, str, str, str]]:
    """Put the runs into params; returns run -> kind, start, rate, level."""
    found = {}
    for kind in ("um", "umap"):
        for start, estimate in estimates.items():
            for rate, share in RATES.items():
                if (kind, rate) == ("umap", "slow"):
                    continue  # a mask that learns slowly stays the random one it was
                for level, times in {"control": None, **{name: LEVELS[name] for name in levels}}.items():
                    name = f"{kind}-{start}-{rate}-{level}"
                    run = {
                        "init": start,
                        "lr": round(share * params["pretrain"]["training"]["lr"], 9),
                        "constraint": "none" if times is None else start,
                    }
                    params[kind]["runs"][name] = run | ({} if times is None else {"threshold": min(2.0, times * estimate)})
                    params["models"][name] = "energy"
                    found[name] = (kind, start, rate, level)
    return found


def regimes(
    recipe: str, downloads: Path, starts: dict[str, int], levels: list[str], noise: float, dropout: float, seeds: list[int]
) -> list[dict]:
    """A row for every combination; gains over the control of the same start, their deviation, and how many seeds have one."""
    with tempfile.TemporaryDirectory() as where:
        params = settings(recipe, starts, noise, dropout, seeds)
        folder = make(Path(where), params, downloads)
        for command in ("prepare", "pretrain ce", *(f"{key} {start}" for key in ("epoch", "mask") for start in starts)):
            stage(folder, command)
        estimates = {start: json.loads((folder / f"metrics/mask/{start}.json").read_text())["constraint"] for start in starts}
        runs = add_runs(params, estimates, levels)
        write(folder, params)

        def train(name: str) -> None:
            stage(folder, f"{runs[name][0]} {name}")
            stage(folder, f"features {name}")

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(train, runs))
            list(pool.map(lambda start: stage(folder, f"features {start}"), starts))
        stage(folder, "evaluate")
        detail = json.loads((folder / "data/evaluation/detail.json").read_text())
        rows = []
        for name, said in {**{start: ("as it was", start, "-", "-") for start in starts}, **runs}.items():
            ours = aurocs(detail[name])
            b = params["um" if said[0] == "um" else "umap"]["runs"].get(name, {}).get("threshold")
            accuracy = statistics.mean(seed["id"]["test"]["accuracy"] for seed in detail[name]["seeds"].values())
            row = [noise, dropout, *said, b, *(statistics.mean(ours[group].values()) for group in GROUPS), accuracy]
            if b is not None:
                control = aurocs(detail["-".join((*said[:3], "control"))])
                for group in ("near", "far"):
                    row += gained(ours[group], control[group])
            rows.append(dict(zip(COLUMNS, row, strict=False)))
    return rows


def gained(ours: dict[str, float], control: dict[str, float]) -> list[float]:
    """By how much (mean and standard deviation over seeds), and for how many seeds more than nothing; both: seed -> AUROC."""
    gains = [our - control[seed] for seed, our in ours.items()]
    return [statistics.mean(gains), statistics.stdev(gains) if len(gains) > 1 else 0.0, sum(gain > 0 for gain in gains)]


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
    parser.add_argument("--recipe", choices=[*STARTS], default="digits-noisy")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"))
    parser.add_argument("--starts", nargs="+", choices=["early", "middle", "last"], default=["early", "middle", "last"])
    parser.add_argument("--levels", nargs="+", choices=[*LEVELS], default=[*LEVELS])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.1, 0.2])
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.0, 0.3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for noise in given.noise:
        for dropout in given.dropout:
            starts = {name: STARTS[given.recipe][name] for name in given.starts}
            rows += regimes(given.recipe, given.downloads, starts, given.levels, noise, dropout, given.seeds)
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

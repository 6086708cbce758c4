"""What early stopping alone is worth where labels are wrong: the last epoch, the one that validation OOD picks, that accuracy picks.

    python benchmarks/stopping.py cifar10-noisy --downloads downloads --work FOLDER [--doses 0 20 confusable-20] [--out FILE.json]

The recipe's pretraining and nothing else, each dose in a folder of its own, two at a time, without DVC; the same command goes on where it
was stopped. Near / far AUROC of the energy, of the score that validation picks, and accuracy: mean and standard deviation over seeds.
"""

import argparse
import json
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from doses import noise
from workspaces import make, parameters, stage

from ood.evaluation.groups import group_means

STOPPED = {"stopped": "energy", "stopped-id": "accuracy"}
STAGES = ("prepare", "pretrain ce", *(f"epoch {name}" for name in STOPPED), *(f"features {name}" for name in ("ce", *STOPPED)), "evaluate")


def settings(recipe: str, dose: str) -> dict:
    """The recipe's, with a dose and these three models alone."""
    params = parameters(recipe)
    params["data"]["id"]["label_noise"] = noise(recipe, dose)
    params["epochs"] = {name: {"run": "ce", "by": by} for name, by in STOPPED.items()}
    for key in ("mask", "um", "umap", "trace"):
        params[key]["runs"] = {}
    params["models"], params["report"]["pairs"] = dict.fromkeys(("ce", *STOPPED), "energy"), {}
    params["evaluate"]["bootstrap"] = 0
    return params


def run(recipe: str, dose: str, downloads: Path, work: Path) -> dict[str, dict]:
    """Every stage of a dose; model -> its figures in percent, a list over seeds each, and the epochs."""
    folder = make(work / f"{recipe}-{dose}", settings(recipe, dose), downloads)
    done = folder / "done.txt"
    finished = done.read_text().splitlines() if done.is_file() else []
    for command in STAGES:
        if command not in finished:
            stage(folder, command)
            with done.open("a") as stream:
                stream.write(f"{command}\n")
    found = {}
    for model, summary in json.loads((folder / "data/evaluation/detail.json").read_text()).items():
        seeds, figures = summary["seeds"].values(), {}
        for kind, score in (("energy", "energy"), ("picked", summary["picked"])):
            means = [group_means(seed["grid"][score]) for seed in seeds]
            figures |= {f"{kind}_{group}": [100 * each[group]["auroc"] for each in means] for group in ("near", "far")}
        figures["accuracy"] = [100 * seed["id"]["test"]["accuracy"] for seed in seeds]
        kept = folder / f"metrics/epoch/{model}.json"
        figures["epochs"] = [*json.loads(kept.read_text())["epoch"].values()] if kept.is_file() else []
        found[model] = figures | {"picked": summary["picked"]}
    print(f"{dose}: done", flush=True)
    return found


def rows(found: dict[str, dict[str, dict]]) -> list[list[str]]:
    """A row a dose and model."""
    table = []
    for dose, models in found.items():
        for model, of in models.items():
            lists = {key: values for key, values in of.items() if key not in ("epochs", "picked")}
            means = {key: f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}" for key, values in lists.items()}
            epochs = ", ".join(f"{epoch:.0f}" for epoch in of["epochs"]) or "last"
            own, picked = (f"{means[f'{kind}_near']} / {means[f'{kind}_far']}" for kind in ("energy", "picked"))
            table.append([dose, model, epochs, own, f"{of['picked']}: {picked}", means["accuracy"]])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=["digits-noisy", "cifar10-noisy"])
    parser.add_argument("--downloads", type=Path, default=Path("downloads"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--doses", nargs="+", default=["0", "20", "confusable-20"])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with ThreadPoolExecutor(2) as pool:
        each = pool.map(lambda dose: run(given.recipe, dose, given.downloads, given.work), given.doses)
        found = dict(zip(given.doses, each, strict=True))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print("| wrong labels | model | epoch of each seed | energy | picked score | accuracy |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows(found):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()

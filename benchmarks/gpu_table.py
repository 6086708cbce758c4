"""What came of the suite, beside what is published."""

import argparse
import csv
import io
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from gpu_plan import MODELS, PUBLISHED, SHOWN, SUITE, SUITES
from safetensors.torch import load_file

from ood.detection.scores import energy
from ood.evaluation.metrics import detection_metrics


def table(given: argparse.Namespace) -> int:
    """Average every model's figures over seeds, and lay them beside the published ones; then set by set what UM's network sees."""
    found: dict[tuple[str, str], list[dict]] = {}
    for path in sorted(SUITE.glob("*-*/evaluation/*/data/evaluation/detail.json")):
        suite = path.parents[4].name.rpartition("-")[0]
        if suite not in SUITES:  # smoke's figures are of noise
            continue
        for model, summary in json.loads(path.read_text()).items():
            seed = next(iter(summary["seeds"].values()))
            figures = {"accuracy": seed["id"]["test"]["accuracy"], "sets": seed["grid"][summary["own"]]}
            for protocol in ("um", "oe"):
                figures |= {f"{protocol} {k.removesuffix('95')}": v[0] for k, v in summary["protocols"][protocol]["all"].items()}
            found.setdefault((suite, model), []).append(figures)
    keys = ["accuracy", "um fpr", "um auroc", "oe fpr", "oe auroc"]
    print(
        f"| suite | model | seeds | ID accuracy | {' | '.join(keys[1:]).replace('fpr', 'FPR95')} | published FPR95 | published AUROC | of |"
    )
    print("|" + " --- |" * 11)
    for suite, models in MODELS.items():
        for model, score in models.items():
            rows = found.get((suite, model), [])
            cells = [spread([row[key] for row in rows]) for key in keys]
            fpr, auroc, of = PUBLISHED.get((suite, model), ("none known", "none known", ""))
            print(f"| {suite} | {model} ({score}) | {len(rows)} | {' | '.join(cells)} | {fpr} | {auroc} | {of} |")
    by_set(found)
    against_copies()
    stream = io.StringIO()
    writer = csv.writer(stream)
    for folder in sorted(SUITE.glob("*-*")):
        if (folder / "times.csv").is_file():
            writer.writerows([folder.name, *row] for row in csv.reader((folder / "times.csv").open()))
    (SUITE / "times.csv").write_text(stream.getvalue())
    return 0


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds, in percent."""
    if not values:
        return "not run"
    return f"{100 * np.mean(values):.2f}" + (f" +- {100 * np.std(values, ddof=1):.2f}" if len(values) > 1 else "")


def by_set(found: dict[tuple[str, str], list[dict]]) -> None:
    """FPR95 and AUROC of every OOD set for every model that was run."""
    for key, title in SHOWN.items():
        sets = sorted({name for rows in found.values() for row in rows for name in row["sets"]})
        print(f"\n| {title} | {' | '.join(sets)} |\n|{' --- |' * (len(sets) + 1)}")
        for (suite, model), rows in found.items():
            cells = [spread([row["sets"][name][key] for row in rows if name in row["sets"]]) for name in sets]
            print(f"| {suite} {model} | {' | '.join(cells)} |")


def against_copies() -> None:
    """Energy of UM's network where ID is as encoded as the other sets: the JPEG copies of its test images take their place."""
    found: dict[str, list[dict]] = {}
    for path in sorted(SUITE.glob("given-*/data/features/*/*.safetensors")):
        scores = {name: energy(logits).numpy() for name, logits in load_file(path).items() if name.endswith(":logits")}
        sets = {name.split(":")[0]: values for name, values in scores.items() if name.startswith(("near/tin", "far/mnist", "far/textures"))}
        known = scores["near/cifar10-as-jpeg:logits"]
        found.setdefault(path.parent.name, []).append({name: detection_metrics(known, values) for name, values in sets.items()})
    for key, title in SHOWN.items() if found else ():
        sets = sorted(next(iter(found.values()))[0])
        print(f"\n| {title}, ID as JPEG | {' | '.join(sets)} |\n|{' --- |' * (len(sets) + 1)}")
        for model, rows in found.items():
            print(f"| given {model} | {' | '.join(spread([row[name][key] for row in rows]) for name in sets)} |")

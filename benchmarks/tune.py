"""How the defaults were chosen: every setting tried, on validation data only, one row each in docs/tuning.csv.

    python benchmarks/tune.py PLAN        PLAN: one of the names in PLANS; `all` runs them in order

Each trial runs plain stage commands in a temporary folder with `evaluate.roles: [val]`, so no test image is ever scored. Later plans
start from the models that the current params.yaml gives, trained once per plan.
"""

import csv
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "tuning.csv"
COLUMNS = ("plan", "setting", "model", "score", "validation_auroc", "validation_fpr_ood_at_tpr95_id", "validation_id_accuracy", "train_ce")


def grid(**values: list) -> list[dict]:
    """All combinations of dotted keys (with __ for the dot) and values."""
    keys = [key.replace("__", ".").replace("dream_id", "dream-id") for key in values]
    return [dict(zip(keys, combination, strict=True)) for combination in itertools.product(*values.values())]


OE_RUNS = ("oe", "oe-um", "energy", "energy-um", "no-outliers", "oe-scratch", "oe-from-um", "oe-from-control")

DREAM = ("diffusion", "align", "proofs", "embed outliers", "synthesize outliers", "judge outliers")
INLIERS = ("embed inliers", "synthesize inliers", "judge inliers")
DREAM_RUNS = ("dream", "dream-um", "dream-id")
UM_RUNS = ("um um", "um control", "umap umap", "umap umap-control")

# name: (what is trained before, settings, what each trial runs, models that are judged)
PLANS = {
    "base": (
        ["prepare"],
        [
            *grid(net__name=["wrn_10_1", "wrn_10_2"], augment__pad=[0, 1], pretrain__training__epochs=[20]),
            *grid(net__name=["wrn_10_1"], pretrain__training__lr=[0.03, 0.3], pretrain__training__epochs=[20]),
            *grid(net__name=["wrn_10_1"], pretrain__training__epochs=[10, 40]),
            *grid(net__name=["wrn_10_1"], pretrain__training__weight_decay=[1e-4, 2e-3], pretrain__training__epochs=[20]),
        ],
        ["pretrain ce", "pretrain l2"],
        ["ce", "l2"],
    ),
    "l2": (  # l2 and its control, resnet, have one rate: that at which the control is right most often on ID validation
        ["prepare"],
        [{"pretrain.runs.resnet.lr": lr, "pretrain.runs.l2.lr": lr} for lr in (0.1, 0.05, 0.02)],
        ["pretrain resnet", "pretrain l2"],
        ["resnet", "l2"],
    ),
    "logitnorm": (
        ["prepare"],
        grid(pretrain__runs__logitnorm__tau=[0.04, 0.1, 0.3, 1.0]),
        ["pretrain logitnorm"],
        ["logitnorm"],
    ),
    "um": (
        ["prepare", "pretrain ce"],
        [
            {},
            *grid(mask__keep=[0.99, 0.95, 0.9]),
            *grid(um__threshold=[0.03, 0.1]),
            *grid(um__training__lr=[0.01, 0.1]),
        ],
        ["mask um", "um um", "um control"],
        ["um", "control"],
    ),
    "umap": (
        ["prepare", "pretrain ce", "mask um"],
        [{}, *grid(umap__keep=[0.5, 0.9, 0.95]), *grid(umap__training__lr=[0.01, 1.0]), *grid(umap__threshold=[0.03])],
        ["umap umap", "umap umap-control"],
        ["umap", "umap-control"],
    ),
    "oe": (
        ["prepare", "pretrain ce"],
        [
            *grid(oe__training__lr=[0.001, 0.003, 0.01, 0.03]),
            *grid(oe__runs__oe__weight=[0.1, 1.0]),
            *grid(oe__training__epochs=[5, 20]),
        ],
        ["oe oe", "oe no-outliers"],
        ["oe", "no-outliers"],
    ),
    "energy": (
        ["prepare", "pretrain ce"],
        [
            *grid(oe__runs__energy__m_in=[-7.0, -9.0, -12.0], oe__runs__energy__m_out=[-3.0, -5.0]),
            *grid(oe__runs__energy__weight=[0.03, 0.3]),
        ],
        ["oe energy"],
        ["energy"],
    ),
    "oe-scratch": (
        ["prepare", "pretrain ce", "pretrain scratch"],
        [{"oe.runs.oe-scratch.weight": weight} for weight in (0.1, 0.5, 1.0)],
        ["oe oe-scratch"],
        ["oe-scratch"],
    ),
    "dream": (  # how to train against a given set of dreamed outliers
        ["prepare", "pretrain ce", *DREAM],
        [
            *grid(oe__runs__dream__phi=["affine", "mlp"], oe__runs__dream__lr=[0.001, 0.003, 0.01, 0.03]),
        ],
        ["oe dream"],
        ["dream"],
    ),
    "dream-embed": (  # where to dream, and how to paint it
        ["prepare", "pretrain ce", "diffusion", "align", "proofs"],
        [
            *grid(embed__runs__outliers__cosine=[0.46, 0.6, 0.7, 0.8, 0.9]),
            *grid(embed__runs__outliers__cosine=[0.46, 0.7], oe__runs__dream__cut=[0.5, 1.0]),
            *grid(embed__runs__outliers__cosine=[0.46, 0.7], painting__guidance=[1.5, 5.0]),
            *grid(embed__runs__outliers__selection=["reference"]),
            {"embed.runs.outliers.method": "interpolation", "embed.runs.outliers.cosine": None},
            {"embed.runs.outliers.method": "noise"},
        ],
        ["embed outliers", "synthesize outliers", "judge outliers", "oe dream"],
        ["dream"],
    ),
    "dream-weight": (
        ["prepare", "pretrain ce", *DREAM],
        [
            *grid(oe__runs__dream__weight=[0.3, 1.0, 2.5]),
            *grid(oe__runs__dream__lr=[0.05, 0.1]),
            *grid(oe__runs__dream__outlier_batch=[64]),
        ],
        ["oe dream"],
        ["dream"],
    ),
    "dream-align": (  # nearer to the class words, and dreamed inliers
        ["prepare", "pretrain ce", "pretrain scratch", "diffusion", "align", "proofs"],
        [
            *grid(align__temperature=[0.1, 0.3], oe__runs__dream_id__cut=[0.5, 0.9]),
            *grid(embed__runs__inliers__cosine=[0.9, 0.99]),
        ],
        [
            "align",
            *(f"{stage} {run}" for stage in ("embed", "synthesize", "judge") for run in ("outliers", "inliers")),
            "oe dream",
            "oe dream-id",
        ],
        ["dream", "dream-id"],
    ),
    "defaults": (
        [
            "prepare",
            "pretrain ce",
            "pretrain l2",
            "pretrain scratch",
            "mask um",
            *DREAM,
            "embed inliers",
            "synthesize inliers",
            "judge inliers",
        ],
        [{}],
        [*UM_RUNS, *(f"oe {run}" for run in (*OE_RUNS, *DREAM_RUNS))],
        ["ce", "l2", "um", "control", "umap", "umap-control", *OE_RUNS, *DREAM_RUNS],
    ),
}


def main() -> None:
    names = list(PLANS) if sys.argv[1:] == ["all"] else sys.argv[1:]
    if not names or any(name not in PLANS for name in names):
        raise SystemExit(f"{__doc__}\nplans: {', '.join(PLANS)}")
    for name in names:
        before, settings, commands, models = PLANS[name]
        with tempfile.TemporaryDirectory(prefix="tune-") as folder:
            code = Path(folder) / "code"  # a copy, so that the repository can be worked on meanwhile
            for package in ("ood", "stages"):
                shutil.copytree(ROOT / package, code / package)
            shutil.copy(ROOT / "params.yaml", code / "params.yaml")
            base = Path(folder) / "base"
            base.mkdir()
            write_params(code, base, {}, models)
            for command in before:
                run(code, base, command)
            for number, setting in enumerate(settings):
                trial = Path(folder) / str(number)
                shutil.copytree(base, trial, copy_function=os.link)
                write_params(code, trial, setting, models)
                for command in [*commands, *(f"features {model}" for model in models), "evaluate"]:
                    run(code, trial, command)
                record(name, sorted({key for s in settings for key in s}), trial, models)
                shutil.rmtree(trial)


def write_params(code: Path, folder: Path, setting: dict, models: list[str]) -> None:
    """params.yaml with a setting's values, validation only, and just the judged models."""
    yaml = YAML()
    params = yaml.load((code / "params.yaml").read_text(encoding="utf-8"))
    params["evaluate"]["roles"] = ["val"]
    params["evaluate"]["bootstrap"] = 0
    params["models"] = {model: params["models"][model] for model in models}
    params["report"]["pairs"] = {}
    for key, value in setting.items():
        *parents, last = key.split(".")
        section = params
        for parent in parents:
            section = section[parent]
        section[last] = value
    path = folder / "params.yaml"
    path.unlink(missing_ok=True)  # it may be a hard link to another trial's
    with path.open("w", encoding="utf-8") as stream:
        yaml.dump(params, stream)


def run(code: Path, folder: Path, command: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(code)}
    subprocess.run([sys.executable, "-m", "stages", *command.split()], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def record(plan: str, keys: list[str], trial: Path, models: list[str]) -> None:
    """Append a row per judged model, with the value of every key that the plan varies."""
    params = YAML(typ="safe").load((trial / "params.yaml").read_text(encoding="utf-8"))
    text = " ".join(f"{key}={json.dumps(value_of(params, key))}" for key in keys) or "the defaults of this release"
    rows = []
    for model in models:
        figures = json.loads((trial / "metrics" / f"{model}.json").read_text(encoding="utf-8"))
        score = json.loads((trial / "data/evaluation/detail.json").read_text(encoding="utf-8"))[model]["own"]
        specs = [json.loads(p.read_text(encoding="utf-8")) for p in sorted((trial / "data/models" / model).glob("*/model.json"))]
        train = sum(spec["history"]["ce"] for spec in specs) / len(specs)
        own = figures["own"]["validation"]
        row = (plan, text, model, score, own["auroc"], own["fpr_ood_at_tpr95_id"], figures["id"]["val"]["accuracy"], train)
        rows.append([f"{v:.4f}" if isinstance(v, float) else v for v in row])
        print(*rows[-1], flush=True)
    new = not TABLE.is_file()
    with TABLE.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        writer.writerows(rows)


def value_of(params: dict, key: str) -> object:
    """The value at a dotted key."""
    for part in key.split("."):
        params = params.get(part)
    return params


if __name__ == "__main__":
    main()

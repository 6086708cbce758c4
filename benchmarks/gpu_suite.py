"""CIFAR-10, all 50,000 images, on one GPU: what the papers report, in pieces that go on where they were stopped.

    python benchmarks/gpu_suite.py smoke             # does every stage run here at all: in miniature, in every precision, compiled
    python benchmarks/gpu_suite.py run [--seeds 0 1 2] [--limit 500] [--data downloads] [--only wrn um ...] [--jobs 3]
    python benchmarks/gpu_suite.py table
    python benchmarks/gpu_suite.py pack FOLDER       # what another machine needs to go on piece by piece: figures, models to start from
    python benchmarks/gpu_suite.py unpack FOLDER     # there, before `run`
    python benchmarks/gpu_suite.py run --miniature --data FOLDER     # every piece on a CPU: a few pictures, an epoch

`run` does what is not done yet, in the order below, for --limit seconds, then stops at the last saved state; call it again. Two suites:
`given` starts from the Unleashing Mask authors' own DenseNet, `seed` trains from scratch by the recipe cifar10. Every suite and seed is a
workspace of its own (suite/given-<n>, suite/seed-<n>), its stages run as plain commands, no DVC; --jobs commands run side by side on the
one GPU, each as soon as what it starts from is there. (One DenseNet fills an H200; nine took turns for seven minutes, and none came to its
end.) A piece is a list of stage commands that share the networks trained before; a command that fails takes along what starts from its
results, nothing else. A model's figures are written down as soon as its features are there, so `table` only averages over seeds and puts
the published figures beside; what isn't there is an empty cell with its name.

Data, in --data: the four archives of small images (cifar10, tin32, dtd32, mnist32), packed or not. Tiny ImageNet's `aux` stands in for the
papers' outliers, its `test`, textures and MNIST for their test sets, so figures can be laid beside the papers' but not be equal.
`given` also wants um_densenet.safetensors (the authors' state dict, names as theirs) and cifar10-original/{train,test}/<class>/*.png: the
network has learned CIFAR-10's own pixels, and on JPEG copies of them it is another one (88 % right on what it knows by heart). There the
other sets can be told from ID by their encoding alone, so the test images' own JPEG copies are among them, as what that alone is worth.
"""

import argparse
import tarfile
import time
from pathlib import Path

import torch
from gpu_plan import GIVEN, ORIGINAL, PIECES, STARTS, SUITE, SUITES, extract, given_params, made_up, seed_params, unpack
from gpu_table import table
from gpu_work import pending, work, workspace


def run(given: argparse.Namespace) -> int:
    """All suites and seeds side by side until nothing is left or the time is over."""
    deadline = time.monotonic() + given.limit
    unpack(Path(given.data))
    makers = {"given": given_params, "seed": seed_params}
    if not all((SUITE / "downloads" / name).exists() for name in (GIVEN, ORIGINAL)):
        del makers["given"]
        print(f"the suite `given` is left out: {given.data} lacks {GIVEN} or {ORIGINAL}")
    found = [(seed, suite) for seed in given.seeds for suite in makers if set(given.only) & SUITES[suite].keys()]
    spaces = [workspace(f"{suite}-{seed}", suite, makers[suite](seed, given), given.only, SUITE / "downloads") for seed, suite in found]
    return work(spaces, deadline, given.jobs)


def smoke(given: argparse.Namespace) -> int:
    """Every piece from scratch in miniature, on made-up pictures, in every precision and layout and compiled."""
    deadline = time.monotonic() + given.limit
    pictures = SUITE / "made-up"  # a folder of their own: `run` must never take them for CIFAR-10
    made_up(pictures)
    variants = {"fp32": {"precision": "fp32"}, "bf16": {"precision": "bf16", "channels_last": True, "fused": True}}
    variants |= {"fp16": {"precision": "fp16"}} if given.device == "cuda" else {}
    variants |= {"compiled": variants["bf16"] | {"compile": True}}
    given.miniature, spaces = True, []
    for name, runtime in variants.items():
        settings = seed_params(0, given)
        settings["runtime"] |= runtime
        only = ["prepare", "wrn", "um"] if name == "compiled" else given.only  # a compiler takes its minute for every net
        spaces.append(workspace(f"smoke-{name}", "seed", settings, only, pictures))
    return work(spaces, deadline, given.jobs)


def pack(given: argparse.Namespace) -> int:
    """One archive a seed and kind below FOLDER, each small enough for what comes back from a lent machine (16 MiB for these nets)."""
    target = Path(given.folder)
    target.mkdir(parents=True, exist_ok=True)
    for folder in sorted(path.parent for path in SUITE.glob("*-*/done.txt")):
        suite = folder.name.rpartition("-")[0]
        if suite not in SUITES:
            continue
        kept = ["params.yaml", "done.txt", "times.csv", "logs", "metrics", "data/mask"]
        kept += [str(path.relative_to(folder)) for path in folder.glob("evaluation/*/data/evaluation")]
        archives = {"figures": [name for name in kept if (folder / name).exists()]}
        left = pending(suite, folder, list(PIECES))
        later = {model for piece, models in STARTS.items() if set(left) & set(SUITES[suite].get(piece, [])) for model in models}
        archives |= {model: [f"data/models/{model}"] for model in sorted(later) if (folder / f"data/models/{model}").is_dir()}
        for name, members in archives.items():
            with tarfile.open(target / f"{folder.name}.{name}.tar.gz", "w:gz") as archive:
                for member in members:
                    archive.add(folder / member, f"{folder.name}/{member}", filter=lambda info: None if "/epochs" in info.name else info)
    for path in sorted(target.iterdir()):
        print(f"{path.name} {path.stat().st_size / 2**20:.1f} MiB")
    return 0


def unpack_suite(given: argparse.Namespace) -> int:
    """What `pack` wrote, back in its place. Data sets are prepared anew there (the same bytes), pieces that were under way done again."""
    for path in sorted(Path(given.folder).glob("*-*.tar.gz")):
        with tarfile.open(path) as archive:
            extract(archive, SUITE)
    for done in SUITE.glob("*-*/done.txt"):
        lines, pieces = done.read_text().splitlines(), SUITES.get(done.parent.name.rpartition("-")[0], {}).values()
        whole = [line for commands in pieces if set(commands) <= set(lines) for line in commands if line != "prepare"]
        done.write_text("".join(f"{line}\n" for line in (lines if (done.parent / "data/prepared").exists() else whole)))
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["smoke", "run", "table", "pack", "unpack"])
    parser.add_argument("folder", nargs="?", default="packed", help="of pack and unpack")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--limit", type=float, default=500.0, help="seconds")
    parser.add_argument("--data", default="downloads")
    parser.add_argument("--only", nargs="+", choices=list(PIECES), default=list(PIECES))
    parser.add_argument("--jobs", type=int, default=0, help="commands at a time; by itself 3 on a GPU, 2 on a CPU")
    parser.add_argument("--epochs", type=int, default=0, help="of WRN-40-2 and DenseNet, in place of the papers' 100")
    parser.add_argument("--um-epochs", type=int, default=10, help="of UM and UMAP from the authors' network; the paper says 100")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "cpu"])
    parser.add_argument("--miniature", action="store_true")
    given = parser.parse_args()
    if given.device == "auto":
        given.device = "cuda" if torch.cuda.is_available() else "cpu"
    given.jobs = given.jobs or (3 if given.device == "cuda" else 2)
    raise SystemExit({"smoke": smoke, "run": run, "table": table, "pack": pack, "unpack": unpack_suite}[given.what](given))


if __name__ == "__main__":
    main()

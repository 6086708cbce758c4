"""Recipes: what they change and what they leave, and that each runs through `dvc repro` with its classes, some on smaller images."""

import re
from copy import deepcopy
from pathlib import Path

import corpus
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import ROOT, Project, Workspace, parse
from pages import checked
from PIL import Image
from safetensors.torch import load_file

from ood.config import Params, recipes
from ood.config.dream import Prompts, Small
from ood.config.whole import check
from ood.dream.small import Captioned, train
from ood.errors import InputError
from ood.progress import Silent

SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")
NAMES = list(recipes.available())
OPEN = {"auxiliary", "validation", "near", "far", "corrupted", "shifted", "world", "id", "runs", "names", "words", "models", "pairs", "net"}


def merged(ours: dict, theirs: dict, top: bool = True) -> dict:
    """What a recipe must come to, said in another way than by the code: names that users choose are replaced, sections are merged."""
    result = deepcopy(ours)
    for key, value in theirs.items():
        section = isinstance(value, dict) and isinstance(ours.get(key), dict) and (key not in OPEN or (top and key == "net"))
        if key == "id":
            result[key] = ours[key] | value
        else:
            result[key] = merged(ours[key], value, False) if section and key != "models" else value
    return result


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_changes_its_values_and_keeps_every_comment_of_the_others(name):
    text = recipes.overlay(name)
    found = recipes.apply(SHIPPED, text, name)
    assert parse(found) == merged(parse(SHIPPED), parse(text))
    untouched = [line for line in SHIPPED.splitlines() if line.strip().startswith("#")]
    assert sum(line in found.splitlines() for line in untouched) >= len(untouched) - 2, "comments on their own lines"
    for comment in ("# smaller rates prefer doing nothing", "device: auto              # auto, cpu, cuda, mps"):
        assert comment in found
    head = found.splitlines()
    assert head[0] == f"# Recipe: {name}"
    assert head[1].removeprefix("# ") == recipes.available()[name]


@pytest.mark.parametrize("name", ["newsgroups", "sst2"])
def test_a_recipe_on_other_data_has_the_others_values_without_their_reasons(name):
    assert "As: trec" in recipes.header(recipes.overlay(name))
    own, base = (parse(recipes.overlay(one)) for one in (name, "trec"))
    assert own["oe"] == base["oe"]
    assert own["data"]["auxiliary"] == base["data"]["auxiliary"]
    assert own["data"]["near"] != base["data"]["near"]
    assert "of these questions" not in recipes.overlay(name)


def test_cifar100_runs_what_cifar10_does():
    """The same stages, but POEM's and DOE's, on other classes with their own words; the encoder is a model, as in imagenet100."""
    own, base = (parse(recipes.apply(SHIPPED, recipes.overlay(name), name)) for name in ("cifar100", "cifar10"))
    left_out = {"poem-um", "poem-control", "doe-um", "doe-control", "doe-still"}
    for section in ("pretrain", "um", "umap", "embed", "synthesize", "oe"):
        assert own[section]["runs"].keys() == base[section]["runs"].keys() - left_out
    assert own["models"].keys() == base["models"].keys() - left_out | {"aligned"}
    assert "aligned" in parse(recipes.overlay("imagenet100"))["models"]
    differs = {"data", "prompts", "pretrain", "umap", "oe", "models", "report"}
    assert {section for section in base if own[section] != base[section]} <= differs


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_recipe_is_lost_where_no_comment_stands_between_two_keys(name):
    """A new key right before a mapping that is replaced was overwritten with it."""
    bare, text = re.sub(r"^ *#.*\n", "", SHIPPED, flags=re.MULTILINE), recipes.overlay(name)
    assert parse(recipes.apply(bare, text, name)) == merged(parse(SHIPPED), parse(text))


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_valid_and_says_what_time_and_figures_to_expect(name, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(recipes.apply(SHIPPED, recipes.overlay(name), name))
    check(Params(path))
    about = "\n".join(recipes.header(recipes.overlay(name)))
    assert "Data:" in about or name.startswith("folder")
    assert "Time:" in about
    ours = name not in ("cifar10", "cifar100", "imagenet100", "mnist", "tiny-imagenet")
    assert ("Figures" if ours else "Published") in about


@pytest.mark.parametrize(
    ("recipe", "preset"),
    [("cifar10", "openood-cifar10"), ("cifar100", "openood-cifar100"), ("cifar10", "oe"), ("cifar100", "um"), ("cifar100", "dream")],
)
def test_presets_change_the_test_sets_and_nothing_else(recipe, preset, tmp_path):
    base = recipes.apply(SHIPPED, recipes.overlay(recipe), recipe)
    found = recipes.add(base, recipes.overlay(preset, recipes.PRESETS), preset)
    assert found.splitlines()[0] == f"# Recipe: {recipe} with {preset}"
    before, after = deepcopy(parse(base)), deepcopy(parse(found))
    assert after["evaluate"]["protocols"] != before["evaluate"]["protocols"]
    for params in (before, after):
        params["evaluate"].pop("protocols")
        params["data"].pop("near"), params["data"].pop("far")
        if preset.startswith("openood"):
            params["data"]["id"].pop("test")
    assert before == after
    (tmp_path / "params.yaml").write_text(found)
    check(Params(tmp_path / "params.yaml"))


def test_the_openood_groups():
    """OpenOOD v1.5 on CIFAR-10: near CIFAR-100 and TIN, far MNIST, SVHN, Textures, Places365."""
    data = parse(recipes.overlay("openood-cifar10", recipes.PRESETS))["data"]
    assert {"cifar100", "tin"} == data["near"].keys()
    assert {"mnist", "svhn", "texture", "places365"} == data["far"].keys()
    data = parse(recipes.overlay("openood-cifar100", recipes.PRESETS))["data"]
    assert {"cifar10", "tin"} == data["near"].keys()
    assert {"mnist", "svhn", "texture", "places365"} == data["far"].keys()


@pytest.mark.parametrize(("recipe", "preset"), [("cifar100", "openood-cifar10"), ("mnist", "oe"), ("cifar10-cpu", "um")])
def test_a_preset_for_other_classes_is_refused(recipe, preset):
    """OOD for CIFAR-10 is ID for CIFAR-100."""
    base = recipes.apply(SHIPPED, recipes.overlay(recipe), recipe)
    with pytest.raises(InputError, match=rf"{preset!r} is for cifar10.*, not for {recipe}\."):
        recipes.add(base, recipes.overlay(preset, recipes.PRESETS), preset)


@pytest.mark.parametrize(("recipe", "margins"), [("cifar10", (-23.0, -5.0)), ("cifar100", (-27.0, -5.0))])
def test_the_papers_combinations(recipe, margins):
    """OE and energy margins with UM as UM's reference trains them, and the margins that the energy paper's authors pass."""
    params = parse(recipes.apply(SHIPPED, recipes.overlay(recipe), recipe))
    runs, pairs = params["oe"]["runs"], params["report"]["pairs"]
    assert (runs["energy"]["m_in"], runs["energy"]["m_out"]) == margins
    for method in ("oe", "energy"):
        um, control = runs[f"{method}-um"], runs[f"{method}-control"]
        assert um["init"] == control["init"] == "ce" == params["mask"]["runs"][um["constraint"]]["init"], (
            "the last checkpoint of pretraining"
        )
        assert um == control | {"constraint": "um"}, "the criterion, and nothing else"
        assert (um["lr"], um["batch_size"], params["oe"]["outlier_batch"], um["weight_decay"]) == (0.01, 256, 256, 1e-4)
        assert pairs[f"{method}-um"] == f"{method}-control"
    assert (runs["energy-um"]["m_in"], runs["energy-um"]["m_out"]) == (-25.0, -7.0), "UM's code"
    assert params["net"] == params["net"] | {"name": "densenet_bc_100_12", "affine": False}


@pytest.mark.parametrize("recipe", ["cifar10", "cifar100"])
def test_um_may_choose_on_tiny_imagenet(recipe, tmp_path):
    base = recipes.apply(SHIPPED, recipes.overlay(recipe), recipe)
    both = base
    for preset in ("um", "tin-validation"):
        both = recipes.add(both, recipes.overlay(preset, recipes.PRESETS), preset)
    assert both.splitlines()[0] == f"# Recipe: {recipe} with um with tin-validation"
    before, after = parse(base), parse(both)
    assert list(after["data"]["validation"]) == ["tiny-imagenet"]
    assert "inaturalist" in after["data"]["far"]
    assert after["data"]["auxiliary"] == before["data"]["auxiliary"]
    (tmp_path / "params.yaml").write_text(both)
    check(Params(tmp_path / "params.yaml"))


def test_a_second_recipe_is_refused_and_an_unknown_one_names_what_there_is():
    once = recipes.apply(SHIPPED, recipes.overlay("mnist"), "mnist")
    with pytest.raises(InputError, match=r"holds the recipe 'mnist' already.*git checkout params.yaml dvc.yaml"):
        recipes.apply(once, recipes.overlay("mnist"), "mnist")
    with pytest.raises(InputError, match=r"no recipe 'minst'\. There are: .*mnist"):
        recipes.overlay("minst")
    with pytest.raises(InputError, match=r"no preset 'x'\. There are: dream, oe,"):
        recipes.overlay("x", recipes.PRESETS)


def test_values_on_one_line_keep_both_comments():
    ours = "seeds: [0]   # why\nnet:\n  name: wrn_10_1  # old\n  dropout: 0.0\n\n# of the next\nmodels:  # all\n  a: msp\n"
    theirs = "net:\n  name: wrn_40_2   # new\nmodels:\n  b: msp   # mine\n"
    found = recipes.apply(ours, theirs, "x").splitlines()
    assert "  name: wrn_40_2            # new; old" in found
    assert found[-4:] == ["", "# of the next", "models:", "  b: msp   # mine"]
    assert "seeds: [0]   # why" in found


@pytest.mark.slow
def test_the_command(tmp_path):
    workspace = Workspace(tmp_path)
    (tmp_path / "params.yaml").write_text(SHIPPED)
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    listed = workspace.stage("recipe --list").stdout
    assert all(f"{name} " in listed for name in (*NAMES, "openood-cifar10"))
    said = workspace.stage("recipe mnist").stdout
    assert "params.yaml is now the recipe mnist" in said
    assert parse((tmp_path / "params.yaml").read_text())["net"]["name"] == "mnist_convnet"
    models = parse((tmp_path / "params.yaml").read_text())["models"]
    assert parse((tmp_path / "dvc.yaml").read_text())["metrics"] == [f"metrics/{model}.json" for model in models]
    assert "stages:" in (tmp_path / "dvc.yaml").read_text()
    again = workspace.stage("recipe cifar10", check=False)
    assert again.returncode == 1
    assert "holds the recipe 'mnist' already" in again.stderr
    (tmp_path / "params.yaml").write_text(SHIPPED)
    said = workspace.stage("recipe folder").stdout
    assert "still to do before `dvc repro`: params.yaml: data.id.images.path: images/classes: no such folder" in said


# --- each through DVC


CLASSES = dict.fromkeys(("cifar10", "cifar10-cpu", "cifar10-noisy", "mnist"), 10) | {
    "imagenet100": 100,
    "tiny-imagenet": 200,
}
CLASSES |= {"digits-noisy": 8, "digits-dreams": 8, "folder-scratch": 6, "folder": 3, "folder-tuned": 3}
CLASSES |= {"trec": 50, "sst2": 2, "clinc": 150, "intents": 150}
# Not run, but checked: newsgroups differs from trec, which is, in its sources of lines, cifar100 from cifar10 in what a test above names.
ON_OTHER_DATA = ["newsgroups", "cifar100"]


CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def pictures(folder: Path, classes: list[str], each: int, side: int, seed: int) -> None:
    """`each` pictures of every class that a net can tell apart: noise on the class's own colours."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        base = rng.integers(0, 200, (2, 2, 3))
        for i in range(each):
            noisy = np.kron(base, np.ones((side // 2, side // 2, 1))) + rng.integers(0, 55, (side, side, 3))
            Image.fromarray(noisy.astype(np.uint8)).save(folder / name / f"{i}.png")


def sentences(path: Path, classes: list[str], each: int, seed: int) -> None:
    """`each` lines of every class that a net can tell apart: its own words, in any order; without a label where there is one class."""
    rng = np.random.default_rng(seed)
    lines = []
    for name in classes:
        words = rng.choice([f"{name}{i}" for i in range(9)], (each, 6))
        lines += [" ".join([f"{name}\tsaid" if len(classes) > 1 else "said", str(i), *own]) for i, own in enumerate(words)]
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def painter(folder: Path, prompts: Prompts, classes: list[str]) -> None:
    """A Stable Diffusion v1-format pipeline of 16 pixels whose tokenizer knows the recipe's words; hardly trained."""
    step = {"steps": 1, "batch_size": 2, "lr": 1e-3}
    small = Small(
        size=16,
        autoencoder={"channels": [8, 16], "training": step},
        text={"width": 32, "layers": 1, "heads": 4},
        unet={"channels": [16, 32], "training": step},
    )
    captions = [prompts.prompt(name) for name in classes]
    images = torch.randint(0, 255, (len(classes), 3, 16, 16), dtype=torch.uint8)
    train(Captioned(images, torch.arange(len(classes)), captions, len(classes)), small, 0, Accelerator(cpu=True), folder, Silent())


# Pixels that the same networks take as well; cifar10 and folder keep their recipes' own, of 32 and 224.
SMALLER = {"imagenet100": 32, "tiny-imagenet": 32, "folder-scratch": 64, "folder-tuned": 64}


def shrink(params: dict, project: Project, name: str) -> None:
    """A recipe's params, for a few small pictures and a few steps a stage; its classes, networks, runs and DAG stay."""
    data, chain, count = params["data"], params["data"]["chain"], CLASSES[name]
    many = count >= 100  # every class needs its pictures, so an epoch takes minutes: what the small recipes show isn't shown again
    if name in SMALLER:
        chain["size"] = SMALLER[name]
        chain["short"] = chain.get("short") and chain["size"] * 8 // 7
    side = chain["size"]
    few = 3
    named = [str(label) for label in data["id"]["images"].get("classes", ())]
    classes = CIFAR10 if name == "cifar10" else named or [f"c{i:03}" for i in range(count)]
    assert len(classes) == count
    if data["kind"] == "text":
        own = data["id"].get("calibration") is not None
        for seed, (part, each) in enumerate({"images": 5, "test": 1, **({"calibration": 1} if own else {})}.items()):
            sentences(project.path / f"synthetic/{part}.tsv", classes, each, seed)
            data["id"][part] = {"source": "tsv", "path": f"synthetic/{part}.tsv"}
        data["id"]["split"] = {"train": 0.8 if own else 0.6, "val": 0.2, "calibration": 0.0 if own else 0.2, "test": 0.0}
    elif data["id"]["test"] is None:
        pictures(project.path / "synthetic/id", classes, 5, side, 0)
        data["id"]["split"] = {"train": 0.4, "val": 0.2, "calibration": 0.2, "test": 0.2}
    else:
        each = 3 if params["diffusion"]["enabled"] else 2  # embeddings need two features of a class
        pictures(project.path / "synthetic/id", classes, each, side, 0)
        pictures(project.path / "synthetic/test", classes, 1, side, 1)
        data["id"]["test"] = {"source": "folder", "path": "synthetic/test"}
        data["id"]["split"] = {"train": 1 - 1 / each, "val": 1 / each, "test": 0.0}
        params["detector"]["model"] = None
    params["detector"] |= {"reject": 0.5, "guarantee": "marginal"}
    if data["kind"] == "images":
        data["id"]["images"] = {"source": "folder", "path": "synthetic/id"}
    data["min_per_class"] = 1
    for seed, role in enumerate(("auxiliary", "validation", "near", "far"), start=2):
        for index, (key, source) in enumerate(data[role].items()):
            if source["source"] == "noise":
                source["count"] = few
            elif source["source"] == "corruption":
                source["limit"] = few
            elif data["kind"] == "text":
                sentences(project.path / f"synthetic/{key}.txt", [key], few, 10 * seed + index)
                data[role][key] = {"source": "lines", "path": f"synthetic/{key}.txt"}
            else:
                pictures(project.path / f"synthetic/{key}", ["x"], few, side, 10 * seed + index)
                data[role][key] = {"source": "folder", "path": f"synthetic/{key}"}
    for source in data["corrupted"].values():
        source["limit"] = few
    if params["net"]["name"].startswith("transformers/"):
        lines = (project.path / "synthetic/images.tsv").read_text().splitlines()
        corpus.encoder(project.path / "encoder", [line.partition("\t")[2] for line in lines])
        params["net"]["name"], data["text"]["tokenizer"] = "transformers/encoder", "encoder"
    params["seeds"] = [0]
    params["runtime"] |= {"device": "cpu", "threads": 1, "workers": 1}
    trainings = [params[key]["training"] for key in ("pretrain", "um", "umap", "align", "oe")]
    for training in (*trainings, *params["pretrain"]["runs"].values(), *params["oe"]["runs"].values()):
        if training.get("epochs") or training in trainings:
            training["epochs"] = min(1, training["epochs"])
        if training.get("warmup"):
            training["warmup"] = 0
        if "batch_size" in training:
            training["batch_size"] = 50
        if training.get("schedule") == "steps" and training.get("epochs") != 0:  # its own schedule, a step and all
            training |= {"milestones": [1], "epochs": 2}
    # Every run runs; of those that differ in their schedule or start alone, one is trained. Of many classes: the first, and DREAM or OE.
    kinds, trained = set(), "dream" if name == "imagenet100" else "uniform"
    looked_at = {masked["init"] for masked in params["mask"]["runs"].values()} | {epoch["run"] for epoch in params["epochs"].values()}
    for key, run in (*params["pretrain"]["runs"].items(), *params["oe"]["runs"].items()):
        kind = run.get("objective") if many else [run.get(key) for key in ("net", "objective", "normalize", "tau", "constraint")]
        if key not in looked_at and (str(kind) in kinds or (many and kind not in (None, trained))):
            run["epochs"] = 0
        kinds.add(str(kind))
    params["oe"]["outlier_batch"] = 8
    for run in params["oe"]["runs"].values():
        run.pop("outlier_batch", None)
    params["mask"]["masks"] = 1
    if many:
        params["um"]["training"]["epochs"] = params["umap"]["training"]["epochs"] = 0
    params["features"]["batch_size"] = 50
    if many:
        params["features"]["odin"] = None
    if name == "folder-scratch":  # other pictures of its classes, and of one that isn't
        pictures(project.path / "synthetic/elsewhere", [*classes[1:], "other"], 2, side, 60)
        data["shifted"] = {"elsewhere": {"source": "folder", "path": "synthetic/elsewhere"}}
    params["scores"] |= {"knn_k": 3, "nnguide_k": 3}
    params["evaluate"]["bootstrap"] = 0
    for run in params["embed"]["runs"].values():
        run |= {"count": 1, "k": 2, "boundary": 1, "features_per_class": 2, "seeds_per_round": 1, "candidates": 3, "keep": 1}
        if run.get("method") == "crossing":  # an encoder of one epoch is right on two images by chance alone
            run["selection"] = "reference"
    for run in params["synthesize"]["runs"].values():
        run["count"] = 1
    params["painting"] |= {"steps": 2, "batch_size": 50}
    params["proofs"] |= {"round_trip": 8, "samples": 1}
    if name in (
        "folder-scratch",
        "imagenet100",
    ):  # the paper's stem would take a minute a picture
        params["net"] |= {"stem": "imagenet", "name": "resnet18"}
    for epoch in params["epochs"].values():
        if "by" in epoch:
            params["pretrain"]["training"]["epochs"] = 2  # so that there is something to choose
        else:
            epoch["epoch"] = 1
    if name in ("digits-noisy", "cifar10-noisy"):  # of two images of a class a fifth is none
        data["id"]["label_noise"]["share"] = 0.5
        for run in params["um"]["runs"].values():
            if run.get("forget", {}).get("how") != "flood" and "forget" in run:
                run["forget"]["share"] = 0.25
    # Not every one need be traced and evaluated to know that this works.
    dreams = "dream" in params["models"]
    last = "dream" if dreams else "oe" if params["oe"]["runs"] else "forget-early"
    kept = [*([] if many else ["ce"] if dreams or name == "folder" else ["ce", "umap"]), last]
    params["models"] = {model: params["models"][model] for model in kept}
    params["trace"]["runs"] = {} if many or not params["pretrain"]["keep_epochs"] else {"ce": "energy"}
    params["report"]["pairs"] = {}
    if params["diffusion"]["enabled"] and params["diffusion"]["model"] is None:
        for name in data["world"]:
            pictures(project.path / f"synthetic/{name}", ["sky", "sea"], 3, side, 80)
            data["world"][name] = {"source": "folder", "path": f"synthetic/{name}"}
        for part in ("autoencoder", "unet"):
            params["diffusion"]["small"][part]["training"] |= {"steps": 2, "batch_size": 4}
    elif params["diffusion"]["enabled"]:
        painter(project.path / "painter", Prompts(**params["prompts"]), classes)
        params["diffusion"]["model"] = "./painter/pipeline"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ON_OTHER_DATA])
def test_a_recipe_runs_through_dvc(name, tmp_path):
    project = Project(tmp_path)
    (project.path / "params.yaml").write_text(SHIPPED)
    project.stage(f"recipe {name}")
    params = parse((project.path / "params.yaml").read_text())
    shrink(params := deepcopy(params), project, name)
    project.set(params)
    ran, _ = project.repro()
    assert {f"pretrain@{run}" for run in params["pretrain"]["runs"]} <= ran
    assert {f"oe@{run}" for run in params["oe"]["runs"]} <= ran
    assert {"evaluate", "report"} <= ran
    runs = {f"{section}@{run}" for section in ("mask", "um", "umap", "embed", "synthesize") for run in params[section]["runs"]}
    assert runs <= ran
    assert {"um@um", "um@control", "umap@umap", "mask@um"} <= runs or name == "digits-dreams"
    report = (project.path / "metrics/report.md").read_text()
    assert all(f"| {model} " in report for model in params["models"])
    assert ("What was dreamed" in report) is params["diffusion"]["enabled"]
    sections = {section.get("id") for section in checked((project.path / "metrics/report.html").read_text()).iter("section")}
    assert ("dreams" in sections) is params["diffusion"]["enabled"]
    assert ("shifted" in sections) is bool(params["data"]["shifted"])
    again, _ = project.repro()
    assert again == set()


@pytest.mark.slow
def test_two_processes_equal_one_with_a_recipe(tmp_path):
    """pretrain and oe up to rounding (float64, dropout and augmentation on), synthesize to the byte: no picture twice, none missing."""
    (tmp_path / "one").mkdir()
    one = Project(tmp_path / "one")
    (one.path / "params.yaml").write_text(SHIPPED)
    one.stage("recipe cifar10")
    shrink(params := deepcopy(parse((one.path / "params.yaml").read_text())), one, "cifar10")
    params["runtime"]["precision"] = "fp64"
    params["synthesize"]["runs"]["outliers"]["count"] = 3
    params["painting"]["batch_size"] = 4
    params["align"]["net"] = {"name": "resnet_8_1"}  # an encoder isn't what is compared
    one.set(params)
    for command in ("check", "prepare", "diffusion", "align", "embed outliers"):
        one.stage(command)
    two = one.copy(tmp_path / "two")
    for command in ("pretrain wrn", "oe oe", "synthesize outliers"):
        one.stage(command)
        two.together(command)
    for run in ("wrn", "oe"):
        first, second = (load_file(w.path / f"data/models/{run}/0/model.safetensors") for w in (one, two))
        assert first.keys() == second.keys()
        for key in first:
            assert torch.allclose(first[key], second[key], rtol=1e-6, atol=1e-8), (run, key)
    painted = [w.hashes("data/painted/outliers") for w in (one, two)]
    assert painted[0] == painted[1]
    images = np.load(two.path / "data/painted/outliers/images.npy")
    assert images.shape == (30, 32, 32, 3)
    assert len({image.tobytes() for image in images}) == 30

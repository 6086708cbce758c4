"""dvc.yaml against the code: exact dependencies, narrow parameters, imports that point one way."""

import ast
import hashlib
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT, parse

from ood.closure import _imports, closure, hashes
from ood.config.basis import DEVICES, SETTINGS
from ood.config.whole import SECTIONS
from ood.errors import InputError

DAG = parse((ROOT / "dvc.yaml").read_text())
STAGES = DAG["stages"]
PARAMS = parse((ROOT / "params.yaml").read_text())


def body(stage: dict) -> dict:
    """The stage itself, or what a foreach repeats."""
    return stage.get("do", stage)


@pytest.mark.parametrize("name", [name for name in STAGES if name != "check"])
def test_every_stage_depends_on_its_basis(name):
    """And on nothing of the code beside it: a list by hand would have to be kept true."""
    run = "@${key}" if any("{run}" in key for key in SETTINGS[name]) else ""
    watched = [d for d in body(STAGES[name])["deps"] if d.startswith(("ood", "stages", "data/basis"))]
    assert watched == [f"data/basis/{name}{run}.json"]


def test_what_a_module_is_made_of_has_its_hash():
    found = hashes("stages/umap.py")
    assert list(found) == ["requirements.lock", *closure("stages/umap.py")]
    assert found["ood/training/objectives.py"] == hashlib.sha256((ROOT / "ood/training/objectives.py").read_bytes()).hexdigest()


def test_a_module_that_is_no_python_is_named(monkeypatch, tmp_path):
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/um.py").write_text("x = 1\ndef broken(:\n")
    monkeypatch.setattr("ood.closure.ROOT", tmp_path)
    with pytest.raises(InputError, match=r"stages/um\.py, line 2: .*Correct it"):
        _imports.__wrapped__("stages/um.py")


@pytest.mark.parametrize(
    ("stages", "kept_from"),
    [
        (("pretrain", "um", "umap", "oe", "align"), ("ood/detection/scores.py", "ood/detection/posthoc.py", "ood/dream/sampling.py")),
        (("features", "trace"), ("ood/detection/detectors.py", "ood/detection/posthoc.py")),
        (("synthesize", "proofs", "report", "diffusion"), ("ood/dream/crossing.py", "ood/dream/sampling.py")),
        (("features", "evaluate"), ("ood/dream/crossing.py", "ood/training/objectives.py")),
    ],
)
def test_a_formula_makes_only_its_own_users_stale(stages, kept_from):
    """Hours of training don't hang on the code of a score that is computed in seconds, nor pictures on another way to draw."""
    for stage in stages:
        assert not set(kept_from) & set(closure(f"stages/{stage}.py")), stage


def test_closure_sees_imports_inside_functions():
    assert "ood/nets/wrn.py" in closure("stages/pretrain.py")
    assert "ood/training/objectives.py" in closure("stages/um.py")
    assert "ood/data/sources/noise.py" not in closure("stages/pretrain.py")


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_says_what_it_does_and_has_its_command(name):
    stage = body(STAGES[name])
    assert stage["desc"]
    assert stage["cmd"].startswith(f"python -m stages {name}")
    assert (ROOT / "stages" / f"{name.replace('-', '_')}.py").is_file()


KEYS = {kind.__name__: key for key, kind in SECTIONS.items()}


def read_keys(name: str) -> set[str]:
    """Dotted keys that a stage reads, by itself and through the library: `params[UM]` is um, `params[UM].training` is um.training."""
    keys: set[str] = set()
    files = [path for path in closure(f"stages/{name.replace('-', '_')}.py") if path.endswith(".py")]
    whole = {"ood/config/whole.py", "ood/config/training.py"}
    for path in (path for path in files if path not in whole):
        text = (ROOT / path).read_text()
        tree = ast.parse(text)
        below = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "params":
                above = below[node]
                part = f".{above.attr}" if isinstance(above, ast.Attribute) and above.attr not in ("root", "masking") else ""
                keys.add(KEYS[node.slice.id] + part)
        if "Common.read(params)" in text and path.startswith("stages/"):
            keys |= {"seeds", "runtime", "augment"}
    return keys


def listed(name: str) -> set[str]:
    """Keys that a stage's basis holds, those of runs without the run's name."""
    found = {key.removesuffix(".{run}") for key in SETTINGS[name]}
    return found | ({"runtime"} if DEVICES in closure(f"stages/{name}.py") else set())


@pytest.mark.parametrize("name", [n for n in STAGES if n != "check"])
def test_stages_list_what_they_read(name):
    """Everything that is read is listed: whole, or by the run's own keys (a section with runs is listed without the others)."""
    for key in read_keys(name):
        if any(key == p or key.startswith(f"{p}.") for p in listed(name)):
            continue
        section = PARAMS
        for part in key.split("."):
            section = section[part]
        missing = {f"{key}.{part}" for part in section} - {p for p in listed(name) if p.startswith(f"{key}.")}
        assert not missing or name in ("trace",), f"{name} reads {key} but lists only {sorted(listed(name))}"


def test_the_test_of_what_is_read_sees_something():
    assert {"um", "seeds", "runtime", "augment"} <= read_keys("um")
    assert {"oe", "um.threshold"} <= read_keys("oe")
    assert "models" in read_keys("report")
    assert "prompts.template" in read_keys("diffusion")


def expanded(name: str, kind: str) -> set[str]:
    """A stage's deps or outs as the shipped params.yaml resolves them, for every run of a foreach."""
    stage = STAGES[name]
    items = {"": {}}
    if "foreach" in stage:
        items = PARAMS
        for part in stage["foreach"].removeprefix("${").removesuffix("}").split("."):
            items = items[part]
    found = set()
    for key, item in items.items():
        for entry in body(stage).get(kind, []):
            path = entry if isinstance(entry, str) else next(iter(entry))
            for word in re.findall(r"\$\{([\w.]+)\}", path):
                value = key if word == "key" else item[word.removeprefix("item.")] if word.startswith("item.") else None
                if value is None:
                    value = PARAMS
                    for part in word.split("."):
                        value = value[part]
                path = path.replace(f"${{{word}}}", str(value))
            found.add(path)
    return found


def test_what_a_stage_depends_on_below_data_another_puts_out():
    """Else DVC neither keeps nor restores it: after `dvc checkout`, or a run out of its cache, it would be missing or stale."""
    made = set().union(*(expanded(name, "outs") for name in STAGES))
    needed = {dep for name in STAGES for dep in expanded(name, "deps") if dep.startswith("data/")}
    parents = {path.rsplit("/", 1)[0] for path in made}  # data/features: everything in it is put out
    lost = {dep for dep in needed if dep not in parents and not any(dep == out or dep.startswith(f"{out}/") for out in made)}
    assert not lost


def imports(path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}


def test_imports_point_one_way():
    for path in (ROOT / "ood").rglob("*.py"):
        found = {name.split(".")[0] for name in imports(path)}
        assert not found & {"stages", "typer", "dvc", "argparse"}, path
        calls = {n.func.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        assert "print" not in calls, f"{path} prints; progress goes through a callback"
    for path in (ROOT / "stages").glob("*.py"):
        assert {n for n in imports(path) if n.startswith("stages")} <= {"stages.console"}, path
    for module in ("evaluation/metrics", "detection/scores"):
        assert not {n for n in imports(ROOT / f"ood/{module}.py") if n.startswith("ood")}, module


def test_only_running_dream_loads_diffusers():
    modules = [
        path.with_suffix("").relative_to(ROOT).as_posix().replace("/", ".") for path in sorted((ROOT / "ood/dream").glob("[!_]*.py"))
    ]
    code = f"import sys, {', '.join(modules)}; sys.exit(bool({{'diffusers', 'transformers', 'tokenizers'}} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_stage_files_are_thin():
    for path in (ROOT / "stages").glob("*.py"):
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        assert len(lines) <= 80 or path.name == "console.py", f"{path.name} has {len(lines)} lines"


def test_every_model_has_its_metrics_file_listed():
    assert [f"metrics/{model}.json" for model in PARAMS["models"]] == DAG["metrics"]


def test_no_machine_in_the_repository():
    for path in ("requirements.lock", "requirements-uv.lock", "Makefile", "dvc.yaml", "params.yaml", "pyproject.toml", ".ci/run"):
        text = (ROOT / path).read_text()
        assert "://" not in text, path
        assert not re.search(r"/(root|work|home|opt)/", text), path

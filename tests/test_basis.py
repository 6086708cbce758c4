"""What every stage stands on: settings that count for it and no others, in the file that DVC watches."""

import json
from copy import deepcopy
from itertools import pairwise

import pytest
from conftest import ROOT, parse

from ood.config import Params, basis
from ood.config.lineage import Lineage
from ood.config.methods import OE, UM, UMAP, Mask
from ood.config.training import Epochs, Pretrain

SHIPPED = parse((ROOT / "params.yaml").read_text())


def found(folder, changes: dict | None = None) -> dict[str, basis.Basis]:
    """The bases with the shipped parameters, changed at dotted keys."""
    return basis.bases(written(folder, changes or {}))


def written(folder, changes: dict) -> Params:
    params = deepcopy(SHIPPED)
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = params
        for parent in parents:
            section = section[parent]
        section[last] = value
    (folder / "params.yaml").write_text(json.dumps(params))
    return Params(folder / "params.yaml")


def reached(folder, **changes) -> set[str]:
    """The stages whose basis a change of one key changes."""
    (key, value), *_ = changes.items()
    old, new = found(folder), found(folder, {key: value})
    return {name for name in old if old[name] != new[name]}


def test_dvc_watches_every_one(tmp_path):
    """The runs of a stage are those that dvc.yaml repeats it for."""
    stages = parse((ROOT / "dvc.yaml").read_text())["stages"]
    watched = set()
    for stage in stages.values():
        section = SHIPPED
        for part in stage.get("foreach", "").strip("${}").split("."):
            section = section[part] if part else section
        own = [dep for dep in stage.get("do", stage)["deps"] if dep.startswith("data/basis/")]
        watched |= {dep.replace("${key}", run) for dep in own for run in (section if "foreach" in stage else [""])}
    assert watched == {f"data/basis/{name}.json" for name in found(tmp_path)}


def test_a_threshold_counts_where_a_constraint_holds(tmp_path):
    """So that `dvc exp run -S um.threshold=0.3` trains no control again."""
    assert reached(tmp_path, **{"um.threshold": 0.3}) == {
        *("um@um", "oe@oe-um", "oe@energy-um", "oe@poem-um", "oe@doe-um", "oe@oe-from-um", "oe@dream-um", "report"),
    }
    assert reached(tmp_path, **{"umap.threshold": 0.3}) == {"umap@umap", "report"}
    assert "oe@oe-um" not in reached(tmp_path, **{"umap.threshold": 0.3})


@pytest.mark.parametrize(
    ("key", "value"), [("epochs", 77), ("lr", 0.077), ("batch_size", 77), ("weight_decay", 0.0077), ("momentum", 0.77)]
)
def test_a_stages_value_counts_where_a_run_has_none_of_its_own(tmp_path, key, value):
    """For every training stage: the runs whose basis changes are those whose recipe does."""

    def recipes(params: Params) -> dict:
        nodes = Lineage(params[Pretrain], params[Epochs], params[UM], params[UMAP], params[OE]).nodes
        return {f"{node.key.removesuffix('.runs')}@{name}": node.recipe for name, node in nodes.items() if node.key != "epochs"}

    for stage in ("pretrain", "um", "umap", "oe"):
        change = {f"{stage}.training.{key}": value}
        old, new = recipes(written(tmp_path, {})), recipes(written(tmp_path, change))
        expected = {name for name in old if old[name] != new[name]}
        assert reached(tmp_path, **change) - {"report"} == expected
        assert expected, "else the test shows nothing"


def test_a_mask_runs_own_rate_counts_in_place_of_the_sections(tmp_path):
    own = {"mask.runs": {"um": {"init": "ce"}, "own": {"init": "ce", "keep": 0.9}}}
    old, new = found(tmp_path, own), found(tmp_path, own | {"mask.keep": 0.8})
    assert {name for name in old if old[name] != new[name]} == {"mask@um", "report"}
    params = written(tmp_path, own)
    assert params[Mask].masking(params[Mask].runs["own"]).keep == 0.9


def test_a_run_may_be_called_like_a_key(tmp_path):
    """Its own values stay, whatever its name."""
    epochs = [{"epochs": {name: {"run": "ce", "epoch": number}}} for name in ("run", "epoch") for number in (12, 13)]
    for one, other in list(pairwise(epochs))[::2]:
        (name,) = one["epochs"]
        assert found(tmp_path, one)[f"epoch@{name}"] != found(tmp_path, other)[f"epoch@{name}"]


def test_every_other_key_reaches_something(tmp_path):
    """What params.yaml holds, some stage stands on; but for the workers, of which no result depends, and look, which has no run there."""
    held = {key for one in found(tmp_path).values() for key in one}

    def leaves(key, value):
        if isinstance(value, dict) and value:
            for part, below in value.items():
                yield from leaves(f"{key}.{part}", below)
        else:
            yield key

    keys = {leaf for section, value in SHIPPED.items() for leaf in leaves(section, value) if section != "look"}
    held |= {key.rpartition(".")[0] for key in held}  # {} in params.yaml stands for what it holds by default
    assert keys - held == {"runtime.workers"}


def test_changes_name_the_key_with_both_values_and_the_stages():
    old = {"um@um": {"um.threshold": None, "ood/a.py": "1"}, "oe@oe": {"ood/a.py": "1"}}
    new = {"um@um": {"um.threshold": 0.3, "ood/a.py": "2"}, "oe@oe": {"ood/a.py": "2"}, "oe@new": {}}
    assert basis.changes(old, new) == {"ood/a.py": ["oe@oe", "um@um"], "um.threshold null -> 0.3": ["um@um"]}
    assert basis.told(basis.changes(old, new)) == ["ood/a.py (oe@oe, um@um)", "um.threshold null -> 0.3 (um@um)"]
    assert basis.changes({}, new) == basis.changes(new, new) == {}


def test_many_changes_are_told_by_section():
    """Another recipe changes hundreds of values: nobody reads them one by one."""
    many = {f"oe.runs.run{n}.weight null -> {n}": [f"oe@run{n}", "report"] for n in range(40)} | {"ood/nets/wrn.py": ["align"]}
    many |= {'models.ce "a/b" -> null': ["evaluate"], "seeds [0] -> [0, 1]": ["report"]}
    assert basis.told(many) == [
        "oe.runs: 40 changed (oe@run0, report, oe@run1 and 38 more)",
        "ood/nets: 1 changed (align)",
        "models: 1 changed (evaluate)",
        "seeds: 1 changed (report)",
    ]


def test_check_tells_what_has_changed_and_what_it_reaches(workspace):
    assert workspace.stage("check").stdout == ""
    workspace.set({"um.threshold": 0.3})
    assert "check: um.threshold null -> 0.3 (" in workspace.stage("check").stdout
    assert workspace.stage("check").stdout == ""
    for name, content in (("um@um", "{"), ("oe@oe", "[]"), ("report", "\x00")):  # a damaged one must not stop every later run
        (workspace.path / f"data/basis/{name}.json").write_text(content)
    assert workspace.stage("check").stdout == ""
    assert json.loads((workspace.path / "data/basis/um@um.json").read_text())["um.threshold"] == 0.3

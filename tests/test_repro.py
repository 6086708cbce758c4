"""Several stages at a time: order, number, what happens after a failure, GPUs."""

import json
import threading

import pytest

from ood.errors import InputError
from stages import repro

NEEDS = {
    "check": set(),
    "prepare": {"check"},
    "paint": {"prepare"},
    "ce": {"prepare"},
    "l2": {"prepare"},
    "oe": {"ce", "paint"},
    "report": {"oe", "l2"},
}


class Dvc:
    """Stands for DVC: answers with a graph and with what is stale, and keeps book of what runs when."""

    def __init__(self, monkeypatch, stale, failing=(), together=1):
        self.stale, self.failing, self.calls, self.log = stale, failing, [], []
        self.lock, self.busy, self.most = threading.Lock(), set(), 0
        self.wanted = repro.downstream(stale, NEEDS) if stale != ["check"] else {"l2", "report"}
        self.meeting = threading.Barrier(together)
        monkeypatch.setattr(repro, "call", self.call)
        monkeypatch.setattr(repro, "run", self.run)

    def call(self, *arguments):
        self.calls.append(arguments)
        if arguments[0] == "dag":
            edges = [f'"{first}" -> "{then}";' for then, needed in NEEDS.items() for first in needed]
            return "strict digraph {\n" + "\n".join([*(f'"{name}";' for name in NEEDS), *edges]) + "\n}"
        return json.dumps({name: [] for name in self.stale}) if arguments[0] == "status" else "up to date\n"

    def run(self, name, environment):
        with self.lock:
            assert not NEEDS[name] & self.busy, "what it needs is still running"
            done = {other for what, other, _ in self.log if what == "end"}
            assert NEEDS[name] & self.wanted <= done, "what it needs comes first"
            self.busy.add(name)
            self.most = max(self.most, len(self.busy))
            self.log.append(("begin", name, environment))
        if name in ("paint", "ce", "l2") and self.meeting.parties > 1:
            self.meeting.wait(10)  # breaks unless so many come together
        with self.lock:
            self.busy.remove(name)
            self.log.append(("end", name, environment))
        return int(name in self.failing)

    @property
    def order(self):
        return [name for what, name, _ in self.log if what == "begin"]


def test_what_is_stale_and_what_needs_it_runs_in_order(monkeypatch, capsys):
    dvc = Dvc(monkeypatch, ["paint"])
    repro.main(jobs=2)
    assert dvc.order == ["paint", "oe", "report"]
    assert ("repro", "-q", "check") not in dvc.calls
    assert dvc.calls[-1] == ("repro",), "DVC itself has the last word"
    assert "[3/3] report" in capsys.readouterr().out


def test_parameters_are_checked_before_anything_else_is_looked_at(monkeypatch):
    """For only then is known what they make stale: at first nothing but check."""
    dvc = Dvc(monkeypatch, ["check"])
    answers = [json.dumps({"check": []}), json.dumps({"l2": []})]
    monkeypatch.setattr(repro, "call", lambda *words: answers.pop(0) if words[0] == "status" else dvc.call(*words))
    repro.main(jobs=2)
    assert dvc.calls[1] == ("repro", "-q", "check")
    assert dvc.order == ["l2", "report"]


def test_what_does_not_wait_runs_together_but_no_more_than_asked_for(monkeypatch):
    three = Dvc(monkeypatch, ["prepare"], together=3)
    repro.main(jobs=3)
    assert three.most == 3
    one = Dvc(monkeypatch, ["prepare"])
    repro.main(jobs=1)
    assert one.most == 1
    assert set(one.order) == NEEDS.keys() - {"check"}
    assert one.order.index("l2") > one.order.index("ce"), "first what most waits for"


def test_after_a_failure_nothing_else_is_started(monkeypatch):
    dvc = Dvc(monkeypatch, ["prepare"], failing=("paint",), together=3)
    with pytest.raises(InputError, match=r"paint failed.*run the same again"):
        repro.main(jobs=3)
    assert sorted(dvc.order) == ["ce", "l2", "paint", "prepare"], "those that ran came to their end"
    assert ("repro",) not in dvc.calls


def test_a_gpu_for_every_job(monkeypatch):
    dvc = Dvc(monkeypatch, ["prepare"], together=3)
    repro.main(devices="2,5,7")
    together = [
        environment["CUDA_VISIBLE_DEVICES"] for what, name, environment in dvc.log if what == "begin" and name in ("paint", "ce", "l2")
    ]
    assert sorted(together) == ["2", "5", "7"]


def test_nothing_to_do(monkeypatch, capsys):
    dvc = Dvc(monkeypatch, [])
    repro.main()
    assert dvc.order == []
    assert capsys.readouterr().out == "Data and pipelines are up to date.\n"
    assert ("repro",) not in dvc.calls


def test_a_stage_that_fails_is_named_and_its_error_shown(workspace, tmp_path):
    """Through DVC itself, which isn't there to be used: the folder is no repository."""
    result = workspace.stage("repro", check=False)
    assert result.returncode == 1
    assert "you are not inside of a DVC repository" in result.stderr
    assert "dvc status --json failed" in result.stderr
    assert "Traceback" not in result.stderr

"""Where tensors are computed: which precision a device gets, and what evaluation in half precision changes."""

import os
import platform
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from conftest import ROOT, Workspace
from safetensors.torch import load_file

from ood.config.training import Runtime
from ood.detection import scores
from ood.evaluation.metrics import detection_metrics
from ood.training.devices import accelerator_for


@pytest.mark.parametrize("instructions", ["avx512_bf16", "amx_tile", None])
def test_auto_is_bf16_only_where_the_cpu_has_instructions_for_it(monkeypatch, instructions):
    """AVX-512 alone isn't enough: there bf16 is emulated."""
    for kind in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{kind}_supported", lambda kind=kind: kind == instructions, raising=False)
    AcceleratorState._reset_state(True)
    accelerator = accelerator_for(Runtime(device="cpu", precision="auto", threads=1))
    assert accelerator.mixed_precision == ("bf16" if instructions else "no")
    AcceleratorState._reset_state(True)


@pytest.mark.slow
def test_evaluation_in_bf16_agrees_with_fp32(trained: Workspace, tmp_path_factory):
    """features, trace, mask and judge compute in runtime.precision; fp32 is what they are held to."""
    exact, half = (trained.copy(tmp_path_factory.mktemp(name)) for name in ("fp32", "bf16"))
    half.set({"runtime.precision": "bf16"})
    for workspace in (exact, half):
        workspace.set({"seeds": [0], "features.odin": {"temperature": 1000.0, "epsilon": 0.0014}})
        for command in ("features ce", "trace ce", "mask um"):
            workspace.stage(command)
    one, other = (load_file(w.path / "data/features/ce/0.safetensors") for w in (exact, half))
    assert one.keys() == other.keys()
    for key in (key for key in one if key.endswith(":features")):
        assert torch.equal(other[key], other[key].bfloat16().float()), "the backbone did compute in bf16"
        assert (one[key] - other[key]).norm() < 0.03 * one[key].norm(), key
    for key in (key for key in one if key.endswith(":logits")):
        assert not torch.equal(other[key], other[key].bfloat16().float()), "the head in fp32: no ties by rounding"
        assert (one[key] - other[key]).norm() < 0.05 * one[key].norm(), key
    for name in (key.removesuffix(":odin") for key in one if key.endswith(":odin") and key.startswith(("near", "far"))):
        for score in (scores.msp, scores.energy):
            found = [detection_metrics(score(w["id/test:logits"]), score(w[f"{name}:logits"]))["auroc"] for w in (one, other)]
            assert abs(found[0] - found[1]) < 0.02, (name, score)
    traces = [np.genfromtxt(w.path / "metrics/trace/ce.csv", delimiter=",", names=True) for w in (exact, half)]
    assert np.abs(traces[0]["near_auroc"] - traces[1]["near_auroc"]).max() < 0.02
    assert not np.array_equal(traces[0]["near_auroc"], traces[1]["near_auroc"])
    masks = [
        np.genfromtxt(w.path / "data/mask/um/atypical-0.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
        for w in (exact, half)
    ]
    assert abs(masks[0]["masked_loss"].mean() - masks[1]["masked_loss"].mean()) < 0.02 * masks[0]["masked_loss"].mean()


@pytest.mark.slow
def test_a_trace_looks_at_every_nth_kept_epoch_and_at_the_last(trained: Workspace, tmp_path):
    workspace = trained.copy(tmp_path)
    for every, epochs in ((1, [1, 2, 3]), (2, [1, 3]), (5, [3])):
        workspace.set({"trace.every": every, "seeds": [0]})
        workspace.stage("trace ce")
        found = np.atleast_1d(np.genfromtxt(workspace.path / "metrics/trace/ce.csv", delimiter=",", names=True))["epoch"]
        assert found.tolist() == epochs


FORWARD = """
import resource, sys, torch
from ood import nets
from ood.training.devices import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
torch.set_num_threads(1)
net, images = nets.build("wrn_10_1", num_classes=8, size=8).eval(), torch.rand(200, 3, 8, 8)
with torch.inference_mode():
    for _ in range(20):
        net(images)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        net(images)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep it, or have no such setting")
def test_memory_stays_with_the_process():
    """Page faults of twenty forward passes: a thousand a pass where blocks are given back, hardly any where they are kept."""
    run = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    kept, returned = (int(run([sys.executable, "-c", FORWARD, how]).stdout) for how in ("kept", "returned"))
    assert returned > 10 * kept

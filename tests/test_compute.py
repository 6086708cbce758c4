"""Where tensors are computed: which precision a device gets."""

import pytest
import torch
from accelerate.state import AcceleratorState

from ood.config.training import Runtime
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

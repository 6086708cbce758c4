"""Where tensors are computed: Accelerate carries device, precision and processes."""

import torch
from accelerate import Accelerator

from ood.config.training import Runtime
from ood.errors import InputError


def accelerator_for(runtime: Runtime) -> Accelerator:
    """An Accelerator by the runtime section; one process, or one of many under `accelerate launch`.

    Raises:
        InputError: the wanted device isn't there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if runtime.device in available and not available[runtime.device]:
        raise InputError(f"params.yaml: runtime.device: this machine has no {runtime.device}. Use auto or cpu.")
    torch.set_num_threads(runtime.threads)
    precision = {"fp32": "no"}.get(runtime.precision, runtime.precision)
    return Accelerator(cpu=runtime.device == "cpu", mixed_precision=precision)

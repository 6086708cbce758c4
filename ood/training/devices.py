"""Where tensors are computed: Accelerate carries device, precision and processes."""

import ctypes
import os
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from ood.config.training import Runtime
from ood.errors import InputError

# Makes a context within which networks compute in runtime.precision: an Accelerator's `autocast`. To be entered anew whenever weights have
# changed, for within it their lower-precision copies are kept.
Precision = Callable[[], AbstractContextManager[None]]


# What a launcher says of where processes run. What else it may say (gradient accumulation, precision, a compiler) would change the result
# unseen by params.yaml and by the fingerprint of unfinished work.
PLACES = ("ACCELERATE_USE_CPU", "ACCELERATE_CPU_AFFINITY", "ACCELERATE_DEBUG_MODE")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


def keep_memory() -> None:
    """Let freed memory stay with the process, where the C library is glibc.

    It gives large blocks back to the system as they are freed, which has to zero them when they are wanted again: at every layer of every
    step, a quarter of the time of a small network on a CPU (docs/performance.md). Changes no result.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)  # the largest that it takes
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def set_up_cpu(runtime: Runtime) -> None:
    """Compute with runtime.threads threads, so that stages which run at once don't take cores from each other; keep freed memory."""
    torch.set_num_threads(runtime.threads)
    keep_memory()


def placed(net: nn.Module, device: torch.device, runtime: Runtime) -> nn.Module:
    """A network where and in the memory layout in which it is to compute; in place."""
    return net.to(device, memory_format=layout(runtime))  # type: ignore[call-overload]  # torch's stubs lack the pair


def layout(runtime: Runtime) -> torch.memory_format:
    """The memory layout of weights and images."""
    return torch.channels_last if runtime.channels_last else torch.contiguous_format


def hardware(device: torch.device) -> list[str]:
    """What last bits depend on beside every setting: the processor, what it is allowed to use, and the libraries made for it."""
    switches = ("ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "NVIDIA_TF32_OVERRIDE")
    allowed = [f"{name}={os.environ.get(name)}" for name in switches]
    if device.type == "cuda":
        return [torch.cuda.get_device_name(device), str(torch.version.cuda), str(torch.backends.cudnn.version()), *allowed]
    told: dict[str, str] = {}
    with suppress(OSError):  # of Linux; a hypervisor's name for a processor says little, so its instructions, too
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        told = {key: line for line in reversed(lines) for key in ("model name", "CPU part", "flags", "Features") if line.startswith(key)}
    return [platform.machine(), *told.values(), torch.backends.cpu.get_cpu_capability(), *allowed]


def _fastest(on_cpu: bool) -> str:
    """bf16 where there are instructions for it: a CPU without them takes several times as long as in fp32."""
    if on_cpu:
        native = any(getattr(torch.cpu, f"_is_{kind}_supported", bool)() for kind in ("avx512_bf16", "amx_tile"))
    else:
        native = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "fp32"


def accelerator_for(runtime: Runtime) -> Accelerator:
    """An Accelerator by the runtime section; one process, or one of many under `accelerate launch`.

    Raises:
        InputError: the wanted device isn't there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if runtime.device in available and not available[runtime.device]:
        raise InputError(f"params.yaml: runtime.device: this machine has no {runtime.device}. Use auto or cpu.")
    on_cpu = runtime.device == "cpu" or (runtime.device == "auto" and not any(available.values()))
    if on_cpu and runtime.precision == "fp16":
        raise InputError("params.yaml: runtime.precision: fp16 needs a GPU. Use fp32 or bf16 on a CPU.")
    # `accelerate launch --cpu --num_processes 2` sets a port and starts one process; only torchrun starts more on CPUs.
    launched = "MASTER_PORT" in os.environ and "ACCELERATE_USE_CPU" in os.environ
    wanted = int(os.environ.get("WORLD_SIZE", "2" if launched else "1"))
    set_up_cpu(runtime)
    for name in [name for name in os.environ if name.startswith("ACCELERATE_") and name not in PLACES]:
        del os.environ[name]
    precision = _fastest(on_cpu) if runtime.precision == "auto" else runtime.precision
    # On NVIDIA GPUs fp32 is fp32 (convolutions would run in TF32 else), and convolutions add up in one order.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=precision if precision in ("bf16", "fp16") else "no")
    if accelerator.num_processes != wanted:
        raise InputError(
            f"several processes were asked for, but {accelerator.num_processes} came together. On CPUs launch with `torchrun "
            "--nproc_per_node 2 -m stages ...`, on GPUs with `accelerate launch --num_processes 2 -m stages ...`."
        )
    return accelerator

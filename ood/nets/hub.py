"""Networks of the library transformers, from a folder that it wrote or from its hub: what they are, and weights; never their own code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.utils import logging

from ood.errors import InputError

CONFIG = "config.json"
# Of it: where it came from, what code its authors would like to be run with it, other heads' classes.
LEFT_OUT = ("_name_or_path", "transformers_version", "auto_map", "dtype", "torch_dtype", "architectures", "id2label", "label2id")
ATTENTION = "eager"  # every network has it, and no library of kernels is asked for another
LAYERS, LARGEST = 200, 10**7
MODULES = ("layers", "group", "n_heads", "num_attention_heads")  # in the keys of numbers by which modules are made
Had = TypeVar("Had")


def had(key: str, name: str, get: Callable[..., Had], **options: Any) -> Had:
    """What a `from_pretrained` gives for a name, of params.yaml's key.

    Raises:
        InputError: there is none, or none that the library knows; the hub can't be reached.
    """
    folder = Path(name)
    if not folder.is_dir() and (name.startswith((".", "/", "~")) or folder.exists()):
        raise InputError(f"{key}: {name}: no such folder. Give one that transformers' save_pretrained wrote, or a name on the hub.")
    if folder.is_dir() and not (folder / CONFIG).is_file():
        raise InputError(f"{key}: {folder} has no {CONFIG}. Give a folder that transformers' save_pretrained wrote, or a name on the hub.")
    wanted = {} if folder.is_dir() else {"revision": revision_of(name)}
    name, remedy = name.partition("@")[0] if wanted else name, "Give a folder, or a name that the hub has."
    if folder.is_dir():
        remedy = f"Is it whole? {CONFIG} and model.safetensors belong there, as save_pretrained writes them."
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what it would say of loading, the refusals here say
    try:
        return get(name, local_files_only=folder.is_dir(), trust_remote_code=False, **wanted, **options)
    except Exception as error:  # the hub's, and the library's own
        raise InputError(f"{key}: {name}: can't be had ({said(error)}). {remedy}") from None


def revision_of(name: str) -> str | None:
    """Which of a hub's commits, tags or branches: what stands behind an @; None: its newest."""
    return name.partition("@")[2] or None


def whole(name: str, kind: Any, wanted: Callable[[str], bool]) -> tuple[nn.Module, dict[str, Tensor]]:
    """A network with its weights, and those tensors that are wanted.

    Raises:
        InputError: as `had`; some of them are nowhere.
    """
    net, found = had("net.weights", name, kind.from_pretrained, output_loading_info=True, dtype=torch.float32)
    state = {key: value for key, value in net.state_dict().items() if wanted(key)}
    if missing := sorted(state.keys() & set(found["missing_keys"])):
        raise InputError(f"net.weights: {len(missing)} tensors of {name} are nowhere (first: {missing[0]}). Give a whole network.")
    return net.eval(), state


def kept(config: Any) -> dict[str, Any]:
    """What is kept of a configuration: what to build, without dropout.

    A network's own would draw otherwise in every number of processes, and not only for the samples of a batch; ours stands on its features.
    """
    found = {key: value for key, value in config.to_dict().items() if key not in LEFT_OUT and not key.startswith(("output_", "return_"))}
    return {key: 0.0 if "drop" in key and isinstance(value, float) else value for key, value in found.items()}


def bounded(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration that may come from anybody.

    Raises:
        ValueError: it asks for what no network has.
    """
    most = {key: LAYERS if any(part in key for part in MODULES) else LARGEST for key in config}
    large = [key for key, value in config.items() if isinstance(value, int) and abs(value) > most[key]]
    if large:
        raise ValueError(f"{large[0]}: {config[large[0]]:,} is more than any network has")
    return config


def said(error: Exception) -> str:
    """An error of others, in a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


class _Undrawn(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        drawn = func in (torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default)
        return args[0] if drawn else func(*args, **kwargs or {})


@contextmanager
def drawing(first: bool) -> Iterator[None]:
    """Within, where a network's first weights aren't wanted: none are drawn, which takes seconds for what is filled from a file at once."""
    if first:
        yield
        return
    with _Undrawn():
        yield

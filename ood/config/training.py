"""Sections that every trainer shares: seeds, runtime, network, augmentation, and how long and how fast to learn."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ood.config import Params, Section


def _distinct_seeds(seeds: list[int]) -> list[int]:
    if len(set(seeds)) != len(seeds):
        raise ValueError("the same seed stands twice; every seed must be listed once")
    return seeds


Seeds = Annotated[list[Annotated[int, Field(strict=True, ge=0, lt=2**31)]], Field(min_length=1), AfterValidator(_distinct_seeds)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


NET = re.compile(r"(wrn|densenet_bc)_(\d+)_(\d+)")


def _known_net(name: str) -> str:
    match = NET.fullmatch(name)
    if match is None:
        raise ValueError("no such network. Known: wrn_<depth>_<width> (wrn_40_2), densenet_bc_<depth>_<growth> (densenet_bc_100_12)")
    depth, width = int(match[2]), int(match[3])
    if depth < 10 or (depth - 4) % 6 or width < 1:
        raise ValueError(f"{match[1]} needs a depth of 10, 16, 22, 28, 34, 40, ..., 100 and a width of at least 1")
    return name


class Runtime(Section):
    """Where and how tensors are computed. fp32 with a fixed number of CPU threads is the bit-exact reference; fp64 is for checks."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = "fp32"
    threads: int = Field(2, ge=1)
    channels_last: bool = False
    compile: bool = False
    fused: bool = False


class Net(Section):
    """A backbone by name (see ood.nets.build) and the options that change its architecture."""

    name: Annotated[str, AfterValidator(_known_net)]
    dropout: float = Field(0.0, ge=0, lt=1)
    affine: bool = True


class Augment(Section):
    """Training-time augmentation: random crop after zero padding, horizontal flip."""

    pad: int = Field(0, ge=0)
    flip: bool = False


class Common(Section):
    """What every trainer reads beside its own section."""

    seeds: Seeds
    runtime: Runtime
    augment: Augment

    @classmethod
    def read(cls, params: Params) -> "Common":
        """From the top-level sections of the same names."""
        return cls(
            seeds=params.section("seeds", Seeds),
            runtime=params.section("runtime", Runtime),
            augment=params.section("augment", Augment),
        )


class Training(Section):
    """One optimisation: SGD with momentum under a cosine schedule.

    `schedule` says when the learning rate moves: every step down to `lr_end` (OE), or once per epoch (UM).
    """

    epochs: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    lr: float = Field(gt=0)
    lr_end: float = Field(1e-6, ge=0)
    schedule: Literal["cosine-step", "cosine-epoch", "constant"] = "cosine-step"
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(5e-4, ge=0)


class Overrides(Section):
    """A run's own values where they differ from its stage's `training`."""

    epochs: int | None = Field(None, ge=0)
    batch_size: int | None = Field(None, ge=1)
    lr: float | None = Field(None, gt=0)
    weight_decay: float | None = Field(None, ge=0)

    def over(self, training: Training) -> Training:
        """`training` with this run's values in place of its own."""
        return training.model_copy(update=self.model_dump(exclude_none=True, include=set(Overrides.model_fields)))


class PretrainRun(Overrides):
    """`normalize`: L2-normalise the features in front of the last layer (the L2 paper)."""

    normalize: bool = False


class Pretrain(Section):
    """Training from scratch: one recipe, several runs; the weights of every keep_epochs-th epoch and the last are kept (0: the last)."""

    keep_epochs: int = Field(1, ge=0)
    training: Training
    runs: dict[Name, PretrainRun] = Field(min_length=1)

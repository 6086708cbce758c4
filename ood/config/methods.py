"""Sections of Unleashing Mask and of the runs with auxiliary outliers."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ood.config import Section
from ood.config.training import Name, Overrides, Training

KeepRate = Annotated[float, Field(strict=True, gt=0, le=1)]


class Mask(Section):
    """Random masks on a trained net: the loss constraint and the atypical samples (UM, ICML 2023)."""

    run: Name
    keep: KeepRate
    masks: int = Field(ge=1)
    augment: bool = True
    memorised: float = Field(0.05, gt=0)
    pictured: int = Field(24, ge=1)


class UM(Section):
    """Fine-tuning with the loss constraint; threshold null = the level that the mask stage estimated."""

    threshold: float | None = Field(None, ge=0)
    training: Training


class UMAP(Section):
    """UM Adopts Pruning: the same objective, learned by a mask on frozen weights."""

    threshold: float | None = Field(None, ge=0)
    keep: KeepRate
    training: Training


OUTLIER_WEIGHTS = {"uniform": 0.5, "energy": 0.1, "none": 0.0}  # lambda of the OE paper; of Liu et al. 2020


class OERun(Overrides):
    """One named training with outliers.

    init: the run whose weights it starts from. objective: what the outliers teach: uniform softmax (OE), energy margins m_in and m_out
    on -logsumexp (Liu et al. 2020), or nothing. weight: of that term; null: its paper's. constraint: on the ID loss; `um` takes the level
    that the starting model was fine-tuned with.
    """

    init: Name
    objective: Literal["uniform", "energy", "none"] = "uniform"
    constraint: Literal["none", "um"] = "none"
    weight: float | None = Field(None, ge=0)
    m_in: float | None = None
    m_out: float | None = None

    @property
    def outlier_weight(self) -> float:
        """The weight of the outlier term."""
        return OUTLIER_WEIGHTS[self.objective] if self.weight is None else self.weight

    @model_validator(mode="after")
    def _consistent(self) -> "OERun":
        if self.objective == "none" and self.weight is not None:
            raise ValueError("weight has no meaning with objective 'none'; remove one of the two")
        margins = [margin is not None for margin in (self.m_in, self.m_out)]
        if not all(margins) if self.objective == "energy" else any(margins):
            raise ValueError("m_in and m_out belong to objective 'energy', both of them and only there")
        if self.objective == "energy" and self.m_in >= self.m_out:
            raise ValueError(f"m_in ({self.m_in}) must lie below m_out ({self.m_out}): ID has the lower energy")
        return self


class OE(Section):
    """Outlier Exposure (ICLR 2019) and its relatives."""

    outlier_batch: int = Field(ge=1)
    training: Training
    runs: dict[Name, OERun] = Field(min_length=1)

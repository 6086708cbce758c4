"""The section of `look`: folders to look at before anything is trained on them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from ood.config import Place, Section
from ood.config.nets import LITE0, Net
from ood.config.training import Name


def _of_timm(net: Net) -> Net:
    if net.timm is None:
        raise ValueError(f"the size and the values that {net.name} has learned with are not known; take one of timm's (timm/<name>)")
    return net


class LookRun(Section):
    """A folder of pictures, <path>/<class>/<image>, or of one kind alone."""

    path: Place


class Look(Section, key="look"):
    """What judges labels: heads on the features of `net`, which sees pictures as it has learned to. runs: folders, by name."""

    net: Annotated[Net, AfterValidator(_of_timm)] = Field(default_factory=lambda: Net(name="timm/tf_efficientnet_lite0", weights=LITE0))
    runs: dict[Name, LookRun] = Field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What `recipe folder` is given: folders and a size in pixels.

    images: the classes. outliers: pictures of other things, to train with. unknown: such to test with, that could be taken for one of the
    classes. far: such that nobody would.
    """

    images: Path
    outliers: Path | None = None
    unknown: Path | None = None
    far: Path | None = None
    size: int | None = None

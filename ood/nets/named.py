"""Networks that are others': timm/, transformers/, clip/ and a name. What each family's module says of them, and which module that is."""

from typing import Any, Protocol, cast

from torch import Tensor

from ood.config.nets import Net, Proposed


class Library(Protocol):
    """A module of such a family; only its own nets need what it imports. Each may raise an InputError: no such net, no hub."""

    PREFIX: str  # of the names of a net's tensors in our backbone

    def described(self, name: str) -> dict[str, Any] | None:
        """What to build, where its name alone doesn't say it, so that a model can keep it."""

    def published(self, name: str) -> dict[str, Tensor]:
        """Its weights, by the names that they have there."""

    def proposed(self, name: str) -> Proposed | None:
        """What they were trained with, where it takes images and that is known."""

    def head(self, name: str) -> str | None:
        """What the linear layer on its features is called among those weights; None: it has none."""


def library(net: Net) -> Library | None:
    """The module of a net's family; None: the net is ours."""
    found: object = None
    match net.family:
        case "timm":
            from ood.nets import given as found
        case "transformers":
            from ood.nets import transformer as found
        case "clip":
            from ood.nets import clip as found
    assert found or not net.given, f"{net.family} has no module here"
    return cast("Library | None", found)

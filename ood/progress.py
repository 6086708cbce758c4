"""How the library tells what it is doing, without printing: a stage passes in something that listens."""

from typing import Protocol


class Progress(Protocol):
    """Listener of a long computation. Any method may raise to stop it; what was saved until then stays."""

    def begin(self, total: int, unit: str) -> None:
        """`total` units of work follow."""

    def step(self) -> None:
        """About to do a small piece of work; called often."""

    def advance(self, message: str = "") -> None:
        """One unit of work is done and saved."""

    def note(self, message: str) -> None:
        """Something worth a line."""


class Silent:
    """A Progress that says nothing."""

    def begin(self, total: int, unit: str) -> None: ...

    def step(self) -> None: ...

    def advance(self, message: str = "") -> None: ...

    def note(self, message: str) -> None: ...

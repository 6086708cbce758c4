"""Who starts from whom: every run of every training stage by its name."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ood.config.methods import OE, UM, UMAP, FineTune
from ood.config.nets import Net
from ood.config.training import Epochs, Overrides, Pretrain, PretrainRun, Training

BRANCHES = ("confidence", "rotation")  # beside a head: keys of pretrain.runs, and the scores that need them


@dataclass(frozen=True)
class Node:
    """A run. key: its section's ('um.runs'). init: the run whose weights it starts from, None where it starts untrained. recipe: how it
    is trained; of a kept epoch its run's. given: whether it starts from a finished classifier: its weights, or a head of words.
    """

    key: str
    init: str | None
    recipe: Training
    given: bool = False


class Lineage:
    """All runs. twice: names that two runs have. zero_shot: those whose head of words learns nothing. worded: those that have words beside
    it that are no class.

    Raises:
        ValueError: a run's values don't go together (see config.whole, which asks that first).
    """

    def __init__(self, pretrain: Pretrain, epochs: Epochs, um: UM, umap: UMAP, oe: OE):
        self.nodes: dict[str, Node] = {}
        self.fine_tunes: dict[str, FineTune] = {}
        self.twice: list[str] = []
        self.branches = {name: branch for name, run in pretrain.runs.items() for branch in BRANCHES if getattr(run, branch) is not None}
        self.branches |= {name: self.branches[epoch.run] for name, epoch in epochs.root.items() if epoch.run in self.branches}
        self.zero_shot = {name for name, run in pretrain.runs.items() if run.words and not run.over(pretrain.training).epochs}
        self.worded = {name for name, run in pretrain.runs.items() if run.words and run.words.negatives}
        self.nets = {name: run.net for name, run in pretrain.runs.items()}
        self.nets |= {name: self.nets.get(epoch.run) for name, epoch in epochs.root.items()}
        for name, run in pretrain.runs.items():
            self._add(name, "pretrain.runs", None, run, pretrain.training)
        for name, epoch in epochs.root.items():
            self._add(name, "epochs", None, pretrain.runs.get(epoch.run, PretrainRun()), pretrain.training)
        for key, stage in (("um", um), ("umap", umap), ("oe", oe)):
            for name, fine_tune in stage.runs.items():
                self._add(name, f"{key}.runs", fine_tune.init, fine_tune, stage.training)
                self.fine_tunes[name] = fine_tune

    def _add(self, name: str, key: str, init: str | None, run: Overrides, training: Training) -> None:
        if name in self.nodes:
            self.twice.append(name)
        self.nodes[name] = Node(key, init, run.over(training), bool(getattr(run, "weights", None) or getattr(run, "words", None)))

    def __contains__(self, name: object) -> bool:
        return name in self.nodes

    def trained(self) -> list[str]:
        """Runs that have learned something, themselves or where they start, here or elsewhere."""
        return [name for name in self.nodes if self.trainings(name) or any(self.nodes[one].given for one in self.line(name))]

    def line(self, name: str) -> Iterator[str]:
        """The run, the one it starts from, and so on; stops where a name is unknown, or comes again."""
        seen: set[str] = set()
        current: str | None = name
        while current in self.nodes and current not in seen:
            seen.add(current)
            yield current
            current = self.nodes[current].init

    def net(self, name: str, default: Net) -> Net:
        """The network of a run: that of the pretraining run which it comes from."""
        return self.nets.get(list(self.line(name))[-1]) or default

    def branch(self, name: str) -> str | None:
        """The branch beside the head of a run's network (see BRANCHES), if it has one."""
        return self.branches.get(list(self.line(name))[-1])

    def complete(self, name: str) -> bool:
        """Whether the run is there, and all that it comes from."""
        return name in self.nodes and self.nodes[list(self.line(name))[-1]].init is None

    def in_a_circle(self, name: str) -> bool:
        """Whether the run starts from itself, by way of others."""
        *_, last = self.line(name)
        return self.nodes[last].init in set(self.line(name))

    def trainings(self, name: str) -> int:
        """How many trainings a run's network has been through when it is done."""
        return sum(self.nodes[one].recipe.epochs > 0 for one in self.line(name))


def known(names: Iterable[str]) -> str:
    """Names in a sentence."""
    return ", ".join(sorted(names))

"""A run: one training for every seed, inside one process, resumable, its outputs published together."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import Accelerator

from ood.config.training import Runtime, Training
from ood.data.batches import TrainingBatches
from ood.errors import InputError
from ood.files import atomically, copy_folder, read_sealed, seal, set_aside, write_sealed
from ood.nets import Classifier
from ood.nets.store import MODELS, Spec, States, save
from ood.progress import Progress
from ood.tables import HISTORIES, to_csv
from ood.training import seeds
from ood.training.checkpoint import Scratch, fingerprint, unfinished
from ood.training.devices import accelerator_for, hardware
from ood.training.mining import Miner
from ood.training.objectives import Objective
from ood.training.perturbation import Perturbation
from ood.training.seeds import FINISHED, MODEL


@dataclass
class Start:
    """Where one seed's training begins: the network (with learnable masks, or not), its objective, and what to record of it.

    states: trained network -> the files of weights to keep of it. sees: the run's batches -> those that this seed trains with.
    miner: chooses every epoch's outliers. perturbation: moves the weights at which they are taught.
    """

    net: Classifier
    spec: Spec
    objective: Objective
    states: Callable[[Classifier], States] = lambda net: {"model": net.state_dict()}
    sees: Callable[[TrainingBatches], TrainingBatches] = lambda batches: batches
    miner: Miner | None = None
    perturbation: Perturbation | None = None


class Needs(NamedTuple):
    """What one seed's training depends on and no other's: values that json can write, files and folders."""

    settings: Sequence[Any] = ()
    inputs: Sequence[Path] = ()


@dataclass
class Run:
    """What one run is made of.

    Args:
        entry: the stage's file, for the fingerprint. name: of the run, and of its folder below data/models.
        inputs: files and folders that every seed's training reads. settings: every section that it depends on.
        needs: seed -> what that seed depends on beside them.
        lasting: whether all of it is known; False where a hub is asked, whose answer may be another next time.
        keep: whether the weights after epoch n are outputs.
    """

    entry: str
    name: str
    seeds: list[int]
    recipe: Training
    runtime: Runtime
    settings: list
    inputs: list[Path]
    needs: Callable[[int], Needs] = lambda seed: Needs()
    lasting: bool = True
    keep: Callable[[int], bool] = lambda epoch: False

    @property
    def outputs(self) -> list[Path]:
        """Where its models and their histories will be."""
        return [MODELS / self.name, HISTORIES / f"{self.name}.csv"]

    def train(self, start: Callable[[int], Start], batches: TrainingBatches, progress: Progress) -> None:
        """Train every seed and write data/models/<name>/<seed>/ and metrics/training/<name>.csv.

        Args:
            start: seed -> Start; called once per unfinished seed.
        """
        from ood.training.loop import Trainer

        accelerator = accelerator_for(self.runtime)
        main = accelerator.is_main_process
        marks = self._marks(accelerator)
        mark = fingerprint(self.entry, marks, [], accelerator.device.type)
        machine = fingerprint(self.entry, hardware(accelerator.device), [], accelerator.device.type)
        keys = {seed: f"{own}-{machine}" for seed, own in marks.items()}
        name = f"{Path(self.entry).stem}-{self.name}"
        with Scratch(name, mark, self.outputs, owner=main) as scratch:
            for seed in self.seeds if main and self.lasting else ():
                if seeds.take(name, mark, keys[seed], scratch.path / str(seed), progress):
                    progress.note(f"seed {seed}: as the last run trained it, with the same settings, data and code")
            progress.begin(self.recipe.epochs * len(self.seeds), "epoch")
            for seed in self.seeds:
                folder = scratch.path / str(seed)
                accelerator.wait_for_everyone()
                if self._is_finished(folder, progress):
                    for _ in range(self.recipe.epochs):
                        progress.advance()
                    continue
                if main:
                    seeds.begins_on(machine, folder)
                begin = start(seed)
                trainer = Trainer(accelerator, self.runtime, self.recipe, folder, progress, self.keep, begin.miner, begin.perturbation)
                history = trainer.fit(begin.net, begin.objective, begin.sees(batches), seed, begin.spec.trainings)
                if main:
                    self._finish(folder, begin, history)
            accelerator.wait_for_everyone()
            if main:
                folders = {keys[seed]: scratch.path / str(seed) for seed in self.seeds}
                if self.lasting:
                    seeds.keep(name, mark, {key: folder for key, folder in folders.items() if seeds.trained_on(machine, folder)})
                self._publish(scratch)
        accelerator.end_training()

    def _marks(self, accelerator: Accelerator) -> dict[int, str]:
        """Seed -> a hash of all that its training depends on but the machine; no other seed is part of it."""
        device = accelerator.device.type
        shared = fingerprint(self.entry, [self.name, self.settings, accelerator.mixed_precision], self.inputs, device)
        needs = {seed: self.needs(seed) for seed in self.seeds}
        return {seed: fingerprint(self.entry, [shared, seed, own.settings], own.inputs, device) for seed, own in needs.items()}

    @staticmethod
    def _is_finished(folder: Path, progress: Progress) -> bool:
        """Whether a seed is done and its model, file by file, still what was written."""
        content = unfinished(folder / FINISHED, progress)
        if content is None:
            return False
        try:
            seeds.check(folder)
        except InputError as error:
            progress.note(f"{error} Here the seed's model is made again.")
            set_aside(folder / FINISHED)
            return False
        return True

    def _finish(self, folder: Path, begin: Start, history: list[dict[str, float]]) -> None:
        model = folder / MODEL
        shutil.rmtree(model, ignore_errors=True)
        spec = begin.spec.after(history[-1], alone=self.recipe.frozen) if history else replace(begin.spec, history={})
        save(model, begin.states(begin.net), spec)
        if (folder / "epochs").is_dir():
            copy_folder(folder / "epochs", model / "epochs")
        seal(model)
        write_sealed(folder / FINISHED, json.dumps(history).encode())

    def _publish(self, scratch: Scratch) -> None:
        rows = []
        models = scratch.path / "models"
        shutil.rmtree(models, ignore_errors=True)
        models.mkdir()
        for seed in self.seeds:
            folder = scratch.path / str(seed)
            history = json.loads(read_sealed(folder / FINISHED) or b"[]")
            rows += [{"seed": seed, "epoch": i, **row} for i, row in enumerate(history, start=1)]
            copy_folder(folder / MODEL, models / str(seed))
        table = scratch.path / "history.csv"
        atomically(table, lambda path: path.write_text(to_csv(rows), encoding="utf-8"))
        scratch.publish(dict(zip((models, table), self.outputs, strict=True)))

"""The one training loop, for pretraining, UM, UMAP and every run with outliers: only the objective and what learns differ."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ood.config.training import Runtime, Training
from ood.data.batches import DROPOUT, Batch, TrainingBatches, draws
from ood.distributed import shard
from ood.errors import InputError
from ood.files import atomically, set_aside, sha256
from ood.nets import Classifier
from ood.nets.store import save_weights
from ood.progress import Progress
from ood.training.checkpoint import state_from, state_to
from ood.training.frozen import FrozenBatches, Head, frozen
from ood.training.mining import Miner
from ood.training.objectives import Objective, Terms, accuracy, soft_labels
from ood.training.perturbation import Perturbation

ROLLING = "checkpoint.pt"


def learning_rate(recipe: Training, step: int, steps_per_epoch: int) -> float:
    """The rate for a global step, counted from 0 (see config.training.Training)."""
    rise, fall = recipe.warmup * steps_per_epoch, (recipe.epochs - recipe.warmup - recipe.cooldown) * steps_per_epoch
    if step < rise:
        return recipe.lr_end + (recipe.lr - recipe.lr_end) * step / rise
    if step >= rise + fall:
        return recipe.lr_end
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "steps":
        return recipe.lr * recipe.factor ** sum(step // steps_per_epoch >= milestone for milestone in recipe.milestones)
    if recipe.schedule == "linear":
        return recipe.lr_end + (recipe.lr - recipe.lr_end) * (1 - (step - rise) / fall)
    per_move = steps_per_epoch if recipe.schedule == "cosine-epoch" else 1
    done = ((step - rise) // per_move) * per_move / fall
    return recipe.lr_end + (recipe.lr - recipe.lr_end) * 0.5 * (1 + math.cos(math.pi * done))


def optimizer_for(parameters: list[nn.Parameter], recipe: Training, fused: bool) -> torch.optim.Optimizer:
    """SGD or AdamW by the recipe."""
    # One call for all tensors: many small ones are the rule here.
    common: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": fused or None, "foreach": not fused}
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **common)
    return torch.optim.SGD(parameters, momentum=recipe.momentum, nesterov=recipe.nesterov and recipe.momentum > 0, **common)


Part = Literal["both", "inliers", "outliers"]  # the terms of an objective that a step is taken on


class _Step(nn.Module):
    """Network and objective as one module: what many processes wrap, so that both kinds of parameters are kept in step."""

    def __init__(self, net: nn.Module, objective: Objective, label_smoothing: float = 0.0):
        super().__init__()
        self.net, self.objective, self.label_smoothing = net, objective, label_smoothing

    def forward(self, batch: Batch, part: Part = "both") -> tuple[Tensor, dict[str, Tensor]]:
        # One concatenated forward pass: batch normalisation sees ID and outliers together (OE's reference).
        exact = next(self.net.parameters()).dtype == torch.float64
        images, beside = batch.images, dict[str, Tensor]()
        if exact and images.is_floating_point():  # words are no such numbers
            images = images.double()
        if self.objective.asks_confidence:
            assert isinstance(self.net, Classifier | Head)  # of which alone it is asked
            logits, beside["sure"] = self.net.with_confidence(images)
        elif self.objective.asks_turns:
            assert isinstance(self.net, Classifier)
            logits, beside["turned"] = self.net.with_turns(images)
        else:
            logits = self.net(images)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        inliers = len(batch.labels)
        outliers = logits[inliers:] if batch.total > batch.global_inliers and part != "inliers" else None
        if part == "outliers":
            assert outliers is not None
            weight, term = self.objective.outlier_term(logits[:inliers], outliers)
            return weight * term, {"loss": weight * term.detach(), "outlier": term.detach()}
        labels, extra_labels, classes = batch.labels, batch.extra_labels, logits.shape[1]
        if batch.mixed_in is not None or self.label_smoothing:
            labels = soft_labels(labels, classes, self.label_smoothing, batch.mixed_in, batch.share).to(logits)
        if self.label_smoothing and bool((extra_labels >= 0).all()):  # dreamed inliers
            extra_labels = soft_labels(extra_labels, classes, self.label_smoothing).to(logits)
        if batch.marked is not None:
            beside["marked"] = batch.marked  # of those objectives that know what to do with them
        loss, terms = self.objective(logits[:inliers], labels, outliers, extra_labels, **beside)
        return loss, terms | {"accuracy": accuracy(logits[:inliers].detach(), batch.labels)}


@dataclass
class Trainer:
    """Trains a network for `recipe.epochs`, resuming from `folder` where an earlier process was stopped.

    After every epoch the folder gets epochs/<n>.safetensors (if the epoch is to be kept) and then checkpoint.pt, both atomically, so a
    kill at any moment costs at most one epoch, and the resumed run ends in the same bytes: every random choice depends on (seed, epoch).

    Args:
        keep: whether the weights after epoch n (1 to recipe.epochs) are kept.
        miner: chooses every epoch's outliers; None: all. perturbation: moves the weights at which they are taught; None: they stay.
    """

    accelerator: Accelerator
    runtime: Runtime
    recipe: Training
    folder: Path
    progress: Progress
    keep: Callable[[int], bool] = field(default=lambda epoch: False)
    miner: Miner | None = None
    perturbation: Perturbation | None = None
    scale: dict | None = field(default=None, init=False)
    kept: dict[str, str] = field(default_factory=dict, init=False)  # files of kept epochs -> their hashes
    whole: nn.Module = field(default_factory=nn.Module, init=False)  # the network that is trained, also where its head learns alone
    averaged: AveragedModel | None = field(default=None, init=False)  # its weights and statistics as a moving average, where one is kept

    def fit(self, net: nn.Module, objective: Objective, batches: TrainingBatches, seed: int, turn: int = 0) -> list[dict[str, float]]:
        """Train `net` in place; returns one row per epoch: lr and the epoch's means of loss, its terms, accuracy.

        Accuracy is that of train mode, and of mixed images by their own labels.

        Args:
            turn: how many trainings the network has been through before (see data.batches.draws).
        """
        device = self.accelerator.device
        self.whole = learner = net
        plan: TrainingBatches | FrozenBatches = batches
        if self.recipe.frozen and self.recipe.epochs:
            assert isinstance(net, Classifier)  # of which alone it is asked
            with self.accelerator.main_process_first():  # the others find what it has computed
                net = net.double() if self.runtime.precision == "fp64" else net
                plan = frozen(net, batches, self.recipe.views, device, self.progress)
            learner = Head(net)
        plan = plan.to(device)
        step_module = _Step(learner.to(device), objective.to(device), self.recipe.strong.label_smoothing)
        if self.runtime.precision == "fp64":
            step_module.double()
        if self.runtime.channels_last:
            step_module.to(memory_format=torch.channels_last)
        learning = [p for p in step_module.parameters() if p.requires_grad]
        optimizer = optimizer_for(learning, self.recipe, self.runtime.fused)
        decay = self.recipe.ema
        self.averaged = AveragedModel(self.whole, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None
        history = self._resume(step_module, optimizer)
        if len(history) == self.recipe.epochs:
            return self._ended(history)
        # Without dynamic=False the short last batch of an epoch would turn every batch's kernels into those for any shape.
        run = torch.compile(step_module, dynamic=False) if self.runtime.compile else step_module
        run, optimizer = self.accelerator.prepare(run, optimizer)
        self._restore_scale()
        for epoch in range(len(history), self.recipe.epochs):
            history.append(self._epoch(run, optimizer, plan, seed, epoch, turn))
            self._save(step_module, optimizer, history)
            row = history[-1]
            self.progress.advance(
                f"seed {seed} epoch {epoch + 1}/{self.recipe.epochs} loss {row['loss']:.4f} accuracy {row['accuracy']:.4f}"
            )
        return self._ended(history)

    @property
    def _weights(self) -> dict[str, Tensor]:
        """What is kept of the network: its weights, or their average."""
        return (self.whole if self.averaged is None else self.averaged.module).state_dict()

    def _ended(self, history: list[dict[str, float]]) -> list[dict[str, float]]:
        if self.averaged is not None and history:
            self.whole.load_state_dict(self._weights)
        return history

    def _epoch(
        self, run: nn.Module, optimizer: torch.optim.Optimizer, batches: TrainingBatches | FrozenBatches, seed: int, epoch: int, turn: int
    ) -> dict[str, float]:
        if self.miner is not None:
            assert isinstance(batches, TrainingBatches)  # with a backbone that learns: what is near changes
            assert isinstance(self.whole, Classifier)
            with self.accelerator.autocast():
                batches = self.miner.batches(self.whole, batches, seed, epoch, turn)
        torch.manual_seed(draws(seed, epoch, turn, DROPOUT).initial_seed())
        run.train()
        sizes = self._sizes(seed, epoch, turn, batches.steps)
        totals: dict[str, Tensor] = {}
        seen = 0
        for index, batch in enumerate(batches.epoch(seed, epoch, turn)):
            self.progress.step()
            rate = learning_rate(self.recipe, epoch * batches.steps + index, batches.steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with shard(batch.total, batch.rows):
                terms = self._descend(run, optimizer, batch) if sizes is None else self._apart(run, optimizer, batch, sizes[index])
            if self.averaged is not None:
                self.averaged.update_parameters(self.whole)
            seen += batch.global_inliers
            for name, value in terms.items():
                totals[name] = totals.get(name, 0.0) + value * batch.global_inliers
        means = {name: float(total) / seen for name, total in totals.items()}
        if not math.isfinite(means["loss"]):
            raise InputError(
                f"the loss became {means['loss']} in epoch {epoch + 1} (seed {seed}). Lower the learning rate ({self.recipe.lr}) of this "
                "run in params.yaml."
            )
        pool = {} if batches.outliers is None else {"outliers": float(len(batches.outliers))}
        return {"lr": rate, **means, **pool}

    def _descend(self, run: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, part: Part = "both", moved: float = 0.0) -> Terms:
        """One step on the objective, or a part of it; its gradient taken at moved weights, if they are."""
        with self.perturbation.moved(self.whole, moved) if self.perturbation and moved else nullcontext():
            with self.accelerator.autocast():
                loss, terms = run(batch, part)
            self.accelerator.backward(loss)
        if self.perturbation is not None:
            self.accelerator.clip_grad_norm_(self.whole.parameters(), self.perturbation.setting.clip)
        optimizer.step()
        optimizer.zero_grad()
        return terms

    def _apart(self, run: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, size: float) -> Terms:
        """DOE's two steps: on outliers with the gradient at the worse weights, then on ID."""
        assert self.perturbation is not None
        if size:
            self._turn(self.perturbation, batch)
        outliers = self._descend(run, optimizer, batch, "outliers", size)
        inliers = self._descend(run, optimizer, batch, "inliers")
        return inliers | outliers | {"loss": inliers["loss"] + outliers["loss"]}

    def _turn(self, perturbation: Perturbation, batch: Batch) -> None:
        """Look for where to move the weights; this look leaves no trace in the network's statistics."""
        statistics = {name: value.clone() for name, value in self.whole.named_buffers()}
        with self.accelerator.autocast():
            images = batch.images.to(next(self.whole.parameters()).dtype) if batch.images.is_floating_point() else batch.images
            logits = self.whole(images)[len(batch.labels) :]
        scaler = self.accelerator.scaler
        exact = logits if logits.dtype == torch.float64 else logits.float()
        perturbation.turn(self.whole, exact, scaler.get_scale() if scaler is not None else 1.0)
        for name, value in self.whole.named_buffers():
            value.copy_(statistics[name])

    def _sizes(self, seed: int, epoch: int, turn: int, steps: int) -> list[float] | None:
        """How far the weights are moved in each step of an epoch; None where they aren't."""
        moving = self.perturbation is not None and epoch >= self.perturbation.begins(self.recipe.epochs)
        return self.perturbation.sizes(seed, epoch, turn, steps) if self.perturbation and moving else None

    @property
    def _companions(self) -> dict[str, Miner | Perturbation]:
        """What has a state of its own beside network, objective and optimiser."""
        return {name: one for name, one in (("miner", self.miner), ("perturbation", self.perturbation)) if one is not None}

    def _resume(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
        path = self.folder / ROLLING
        saved = state_from(path, self.progress)
        if saved is None:
            return []
        self.kept = saved["kept"]
        wrong = [name for name, known in self.kept.items() if not _is_whole(self.folder / name, known)]
        if wrong:
            told = f"{self.folder / wrong[0]} is damaged; the checkpoint that counts on it is set aside as {set_aside(path).name}"
            self.progress.note(f"{told}. This seed is trained again.")
            self.kept = {}
            return []
        module.load_state_dict(saved["module"])
        optimizer.load_state_dict(saved["optimizer"])
        if self.averaged is not None:
            self.averaged.load_state_dict(saved["averaged"])
        for name, companion in self._companions.items():
            companion.load_state_dict(saved[name])
        self.scale = saved.get("scale")
        return saved["history"]

    def _restore_scale(self) -> None:
        """fp16's loss scale: every seed begins with the same one, and a resumed run with the one it had."""
        scaler = self.accelerator.scaler
        if scaler is not None:
            scaler.load_state_dict(self.scale or type(scaler)().state_dict())

    def _save(self, module: _Step, optimizer: torch.optim.Optimizer, history: list[dict[str, float]]) -> None:
        if not self.accelerator.is_main_process:
            return
        epoch = len(history)
        if self.keep(epoch):
            name = f"epochs/{epoch:03d}.safetensors"
            atomically(self.folder / name, lambda path: save_weights(path, self._weights))
            self.kept[name] = sha256(self.folder / name)
        state = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "history": history, "kept": self.kept}
        state |= {name: companion.state_dict() for name, companion in self._companions.items()}
        if self.averaged is not None:
            state["averaged"] = self.averaged.state_dict()
        if self.accelerator.scaler is not None:
            state["scale"] = self.accelerator.scaler.state_dict()
        state_to(self.folder / ROLLING, state)


def _is_whole(path: Path, known: str) -> bool:
    """Whether a file has the content whose hash is known."""
    return path.is_file() and sha256(path) == known

"""A resumable optimisation for the parts of a diffusion model: AdamW, one-cycle schedule, averaged weights.

The classifiers' loop (ood.training.loop) counts epochs over labelled batches; here a step is a draw. Every draw depends on (seed, step), is
made for the global batch and cut to this process's rows, so that a resumed or a shared training equals an undisturbed one.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ood.config.dream import Optimiser
from ood.distributed import global_mean, rows_of
from ood.errors import InputError
from ood.progress import Progress
from ood.training.checkpoint import state_from, state_to

CLIP = 1.0  # largest norm of a step's gradient


@dataclass
class Loop:
    """Trains a module whose forward(*inputs) gives a loss per sample, resuming from `path`.

    Args:
        path: the checkpoint file. save_every: steps between two saves. decay: of the averaged weights; 0: none are kept.
        layout: memory layout of the weights while they are trained.
    """

    accelerator: Accelerator
    path: Path
    recipe: Optimiser
    save_every: int
    progress: Progress
    label: str
    decay: float = 0.0
    layout: torch.memory_format = torch.contiguous_format

    def fit(self, module: nn.Module, draw: Callable[[int, Tensor], tuple[Tensor, ...]]) -> list[float]:
        """Train in place (ending with the averaged weights where there are any); returns the mean loss between saves.

        Args:
            draw: (step, rows) -> inputs of the module for these rows of the step's global batch.
        """
        module.to(self.accelerator.device, memory_format=self.layout)  # type: ignore[call-overload]  # torch's types know either, not both
        averaged = deepcopy(module).requires_grad_(False) if self.decay else None
        learning = [p for p in module.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(learning, lr=self.recipe.lr, foreach=True)
        done, losses = self._resume(module, averaged, optimizer)
        if done < self.recipe.steps:
            run, optimizer = self.accelerator.prepare(module, optimizer)
            run.train()
            total: Tensor | float = 0.0
            rows, since = rows_of(self.recipe.batch_size), 0
            for step in range(done, self.recipe.steps):
                self.progress.step()
                for group in optimizer.param_groups:
                    group["lr"] = self.recipe.lr * one_cycle(step, self.recipe.steps)
                with self.accelerator.autocast():
                    loss = global_mean(run(*(part.to(self.accelerator.device) for part in draw(step, rows))))
                self.accelerator.backward(loss)
                self.accelerator.clip_grad_norm_(learning, CLIP)
                optimizer.step()
                optimizer.zero_grad()
                if averaged is not None:
                    _average(averaged, module, self.decay)
                total, since = total + loss.detach(), since + 1
                if (step + 1) % self.save_every == 0 or step + 1 == self.recipe.steps:
                    losses.append(float(total) / since)
                    if not math.isfinite(losses[-1]):
                        raise InputError(
                            f"the loss of the {self.label} became {losses[-1]} near step {step + 1}. Lower its lr in params.yaml."
                        )
                    self._save(step + 1, module, averaged, optimizer, losses)
                    total, since = 0.0, 0
                    self.progress.advance(f"{self.label} step {step + 1}/{self.recipe.steps} loss {losses[-1]:.4f}")
        if averaged is not None:
            module.load_state_dict(averaged.state_dict())
        return losses

    def rounds(self) -> int:
        """How often a whole training saves, and tells the progress so."""
        return -(-self.recipe.steps // self.save_every)

    def _resume(self, module: nn.Module, averaged: nn.Module | None, optimizer: torch.optim.Optimizer) -> tuple[int, list[float]]:
        saved = state_from(self.path, self.progress)
        if saved is None:
            return 0, []
        module.load_state_dict(saved["module"])
        optimizer.load_state_dict(saved["optimizer"])
        if averaged is not None:
            averaged.load_state_dict(saved["averaged"])
        for _ in saved["losses"]:
            self.progress.advance()
        return saved["step"], saved["losses"]

    def _save(self, step: int, module: nn.Module, averaged: nn.Module | None, optimizer: torch.optim.Optimizer, losses: list) -> None:
        if not self.accelerator.is_main_process:
            return
        state = {"step": step, "losses": losses, "module": module.state_dict(), "optimizer": optimizer.state_dict()}
        state["averaged"] = averaged.state_dict() if averaged is not None else None
        state_to(self.path, state)


def one_cycle(step: int, steps: int, warm: float = 0.3) -> float:
    """Share of the top rate at a step: cosine from 1/25 up over the first `warm` of all steps, then down to nothing (Smith, 2018)."""
    top = max(1.0, warm * steps)
    if step < top:
        return 1 / 25 + (1 - 1 / 25) * 0.5 * (1 - math.cos(math.pi * step / top))
    return 0.5 * (1 + math.cos(math.pi * (step - top) / max(1.0, steps - top)))


@torch.no_grad()
def _average(averaged: nn.Module, module: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(averaged.parameters()), [p.detach() for p in module.parameters()], 1 - decay)

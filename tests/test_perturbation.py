"""DOE: the regret, where weights are moved and back, what each of the two steps teaches, and what a stopped run remembers."""

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from conftest import Stop, StopAfter
from test_training import images, net, recipe

from ood.config.methods import Perturb
from ood.config.training import Augment, Runtime
from ood.data.batches import TrainingBatches
from ood.progress import Silent
from ood.training.loop import Trainer
from ood.training.objectives import OutlierExposure, outlier_exposure
from ood.training.perturbation import Perturbation, regret


def logits(scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_regret_is_the_slope_in_a_scale():
    z, scale = logits(), torch.ones((), dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(outlier_exposure(scale * z), scale)[0]
    assert float(regret(z)) == pytest.approx(float(slope), rel=1e-12)
    assert float(regret(torch.zeros(2, 3))) == 0.0, "where all logits are equal nothing can be bettered"
    assert min(float(regret(logits(s))) for s in (0.01, 1.0, 100.0)) >= 0.0


def outlier_logits(model: torch.nn.Module) -> torch.Tensor:
    return model(images(30, 1).images / 255.0)


@pytest.mark.parametrize(("towards", "sign"), [("worst", 1), ("reference", -1)])
def test_weights_are_moved_where_the_regret_rises_and_back_to_the_bit(towards, sign):
    model = net(dropout=0.0).eval()
    moving = Perturbation(Perturb(towards=towards, momentum=0.0))
    moving.turn(model, outlier_logits(model))
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    with torch.no_grad():
        at = float(regret(outlier_logits(model)))
        with moving.moved(model, 1e-3):
            there = float(regret(outlier_logits(model)))
            for name, weight in model.named_parameters():
                length = float((weight - before[name]).norm() / before[name].norm()) if weight.dim() > 1 else 0.0
                assert length == pytest.approx(1e-3 if weight.dim() > 1 else 0.0, rel=1e-3), f"{name}: of its layer's own length"
    assert sign * (there - at) > 0
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_the_direction_is_a_moving_average():
    model = net(dropout=0.0).eval()
    moving, alone = Perturbation(Perturb(momentum=0.6)), Perturbation(Perturb(momentum=0.0))
    moving.turn(model, outlier_logits(model))
    first = {name: value.clone() for name, value in moving.average.items()}
    with torch.no_grad():
        model.fc.weight.mul_(-1.0)
    moving.turn(model, outlier_logits(model))
    alone.turn(model, outlier_logits(model))
    for name, value in moving.average.items():
        assert torch.allclose(value, 0.6 * first[name] + 0.4 * alone.average[name], atol=1e-6), name


def fit(folder, perturbation: Perturbation | None, epochs: int = 4, progress=None, objective=None, dropout: float = 0.2, **changes):
    trainer = Trainer(
        Accelerator(cpu=True), Runtime(device="cpu", threads=1), recipe(epochs=epochs, **changes), folder, progress or Silent(),
        perturbation=perturbation,
    )  # fmt: skip
    torch.set_num_threads(1)
    model = net(dropout)
    batches = TrainingBatches(images(), 8, Augment(pad=1), images(30, 1), 12)
    history = trainer.fit(model, objective or OutlierExposure(0.5), batches, 0)
    return {k: v.clone() for k, v in model.state_dict().items()}, history


def test_before_it_moves_weights_it_is_outlier_exposure(tmp_path):
    """With a clip that clips nothing."""
    plain, history = fit(tmp_path / "oe", None)
    moved, other = fit(tmp_path / "doe", Perturbation(Perturb(warmup=0.5, clip=1e6)))
    assert other[:2] == history[:2]
    assert other[2]["ce"] != history[2]["ce"]
    assert not torch.equal(plain["fc.weight"], moved["fc.weight"])


def test_whatever_the_warm_up_some_of_it_is_done():
    assert Perturbation(Perturb(warmup=0.95)).begins(10) == 9
    assert [Perturbation(Perturb(warmup=0.5)).begins(epochs) for epochs in (1, 2, 3, 10)] == [0, 1, 1, 5]


def test_its_control_takes_the_same_steps_at_weights_that_stay(tmp_path):
    _, history = fit(tmp_path / "still", Perturbation(Perturb(warmup=0.5, sizes=[0.0])))
    nearly, other = fit(tmp_path / "nearly", Perturbation(Perturb(warmup=0.5, sizes=[1e-30])), dropout=0.0)
    same, again = fit(tmp_path / "same", Perturbation(Perturb(warmup=0.5, sizes=[0.0])), dropout=0.0)
    assert all(torch.equal(nearly[name], same[name]) for name in same)
    assert other == again
    assert history[3]["loss"] == pytest.approx(history[3]["ce"] + 0.5 * history[3]["outlier"])


def test_a_slope_may_be_scaled_and_what_overflows_is_left_out():
    model = net(dropout=0.0).eval()
    plain, scaled, broken = (Perturbation(Perturb()) for _ in range(3))
    plain.turn(model, outlier_logits(model))
    scaled.turn(model, outlier_logits(model), 2.0**16)
    for name, value in plain.average.items():
        assert torch.allclose(value, scaled.average[name], rtol=1e-5, atol=1e-7), name
    broken.turn(model, outlier_logits(model), float("inf"))
    assert not broken.average


def test_two_steps_a_batch_and_no_third_look(tmp_path):
    """Batch statistics see what is learned from: ID and outliers in each of the two steps; the look for the direction leaves none."""
    state, _ = fit(tmp_path, Perturbation(Perturb(warmup=0.0)), epochs=1)
    counts = {int(value) for name, value in state.items() if name.endswith("num_batches_tracked")}
    assert counts == {2 * 3}, "three batches"


def test_where_it_moves_by_nothing_it_is_two_plain_steps(tmp_path):
    """Without momentum: the outlier term's gradient at the old weights, then ID's at the new ones."""
    rate, weight = 0.05, 0.5
    keys = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "lr": rate, "lr_end": rate, "schedule": "constant"}
    state, _ = fit(tmp_path, Perturbation(Perturb(warmup=0.0, sizes=[1e-12], clip=1e6)), epochs=1, dropout=0.0, **keys)
    model = net(dropout=0.0).train()
    for batch in TrainingBatches(images(), 8, Augment(pad=1), images(30, 1), 12).epoch(0, 0):
        count = len(batch.labels)
        for term in (
            lambda z, count=count: weight * outlier_exposure(z[count:]),
            lambda z, count=count, labels=batch.labels: F.cross_entropy(z[:count], labels),
        ):
            gradients = torch.autograd.grad(term(model(batch.images)), list(model.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                    parameter.sub_(rate * gradient)
    for name, value in model.state_dict().items():
        assert torch.allclose(value.float(), state[name].float(), atol=1e-4), name


@pytest.mark.parametrize("steps", [2, 5, 8, 11])
def test_a_stopped_run_goes_on_in_the_same_direction(tmp_path, steps):
    setting = Perturb(warmup=0.25)
    whole, history = fit(tmp_path / "whole", Perturbation(setting))
    with pytest.raises(Stop):
        fit(tmp_path / "stopped", Perturbation(setting), progress=StopAfter(steps))
    resumed, again = fit(tmp_path / "stopped", Perturbation(setting))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert history == again


def test_gradients_are_clipped(tmp_path):
    """One step at a rate of 1 moves the weights by the clip, twice."""
    keys = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "lr": 1.0, "lr_end": 1.0, "schedule": "constant", "batch_size": 20}
    start = {name: weight.clone() for name, weight in net(0.0).named_parameters()}
    trainer = Trainer(
        Accelerator(cpu=True), Runtime(device="cpu", threads=1), recipe(epochs=1, **keys), tmp_path, Silent(),
        perturbation=Perturbation(Perturb(warmup=0.0, clip=1e-3)),
    )  # fmt: skip
    model = net(0.0)
    trainer.fit(model, OutlierExposure(0.5), TrainingBatches(images(), 20, Augment(), images(30, 1), 12), 0)
    moved = torch.sqrt(sum((weight.detach() - start[name].detach()).square().sum() for name, weight in model.named_parameters()))
    assert 1e-3 < moved.item() <= 2e-3 * 1.001

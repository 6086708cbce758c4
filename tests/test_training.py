"""The training loop: schedules, determinism, exact resume after a kill, the lock."""

import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from conftest import ROOT, Stop, StopAfter, Workspace, dying_at
from safetensors.torch import load_file

from ood import nets
from ood.config.training import Augment, PretrainRun, Runtime, Training
from ood.data.batches import TrainingBatches
from ood.data.sets import ImageSet
from ood.errors import InputError
from ood.files import SUMS, in_place_of, write_text
from ood.nets.store import MODELS, Spec, load_spec
from ood.progress import Silent
from ood.training.checkpoint import Scratch, fingerprint
from ood.training.loop import Trainer, learning_rate, optimizer_for
from ood.training.objectives import LogitNorm, Objective, OutlierExposure
from ood.training.runs import Run, Start


def recipe(**changes) -> Training:
    return Training(**({"epochs": 4, "batch_size": 8, "lr": 0.1} | changes))


def images(count=20, seed=0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    noise = torch.randint(0, 128, (count, 3, 8, 8), generator=generator)
    return ImageSet((noise + 60 * labels[:, None, None, None]).to(torch.uint8), labels)


def net(dropout=0.2):
    torch.manual_seed(0)
    return nets.build("wrn_10_1", num_classes=3, size=8, dropout=dropout)


def train(folder: Path, progress=None, epochs=4, seed=0, threads=1):
    runtime = Runtime(device="cpu", threads=threads)
    torch.set_num_threads(threads)
    trainer = Trainer(Accelerator(cpu=True), runtime, recipe(epochs=epochs), folder, progress or Silent(), keep=lambda e: True)
    model = net()
    batches = TrainingBatches(images(), 8, Augment(pad=1, flip=True), images(30, 1), 12)
    history = trainer.fit(model, OutlierExposure(0.5), batches, seed)
    return {k: v.clone() for k, v in model.state_dict().items()}, history


def test_learning_rate_schedules():
    step = recipe(schedule="cosine-step", lr=0.1, lr_end=1e-6)
    assert learning_rate(step, 0, 10) == pytest.approx(0.1)
    assert learning_rate(step, 20, 10) == pytest.approx(1e-6 + (0.1 - 1e-6) * 0.5)
    assert learning_rate(step, 13, 10) == pytest.approx(1e-6 + (0.1 - 1e-6) * 0.5 * (1 + math.cos(math.pi * 13 / 40)))
    epoch = recipe(schedule="cosine-epoch", lr=0.1, lr_end=0.0)
    assert learning_rate(epoch, 10, 10) == learning_rate(epoch, 19, 10) == pytest.approx(0.05 * (1 + math.cos(math.pi / 4)))
    assert learning_rate(recipe(schedule="constant"), 33, 10) == 0.1
    line = recipe(schedule="linear", lr=0.4, lr_end=0.0, warmup=1)
    assert [learning_rate(line, step, 10) for step in (5, 10, 25, 40)] == pytest.approx([0.2, 0.4, 0.2, 0.0])


@pytest.mark.parametrize(("epochs", "first", "second"), [(60, 40, 50), (100, 75, 90), (350, 150, 250)])
def test_the_l2_papers_steps(epochs, first, second):
    """L2 sheet 7: 0.1 until the first milestone, 0.01 until the second, 0.001 to the end."""
    training = recipe(epochs=epochs, lr=0.1, schedule="steps", milestones=[first, second])
    rates = [learning_rate(training, epoch * 7 + 6, 7) for epoch in (0, first - 1, first, second - 1, second, epochs - 1)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_warm_up_and_cool_down_of_the_cct_recipe():
    training = recipe(epochs=300, lr=5.5e-4, lr_end=1e-5, schedule="cosine-epoch", warmup=10, cooldown=10, optimizer="adamw")
    rates = [learning_rate(training, epoch * 4, 4) for epoch in (0, 5, 10, 150, 290, 299)]
    assert rates == pytest.approx([1e-5, 2.8e-4, 5.5e-4, 2.8e-4, 1e-5, 1e-5])
    assert learning_rate(training, 21, 4) > learning_rate(training, 20, 4), "it rises step by step"


def test_optimizers():
    parameters = [torch.nn.Parameter(torch.ones(2))]
    sgd = optimizer_for(parameters, recipe(momentum=0.8, nesterov=True, weight_decay=0.05), False)
    assert isinstance(sgd, torch.optim.SGD)
    wanted = {"momentum": 0.8, "nesterov": True, "weight_decay": 0.05, "lr": 0.1}
    assert wanted.items() <= sgd.param_groups[0].items()
    adamw = optimizer_for(parameters, recipe(optimizer="adamw", weight_decay=0.06), False)
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.param_groups[0]["weight_decay"] == 0.06
    with pytest.raises(ValueError, match="milestones belong to schedule 'steps'"):
        recipe(schedule="steps")
    with pytest.raises(ValueError, match="must rise and lie below epochs"):
        recipe(epochs=10, schedule="steps", milestones=[5, 12])
    with pytest.raises(ValueError, match="leave nothing of 4 epochs"):
        recipe(epochs=4, warmup=2, cooldown=2)


def test_a_run_overrides_what_it_names_and_nothing_else():
    training = recipe(epochs=60, lr=0.1, schedule="steps", milestones=[40, 50])
    assert PretrainRun(lr=0.3).over(training) == training.model_copy(update={"lr": 0.3})
    assert PretrainRun(epochs=0).over(training).epochs == 0
    assert PretrainRun(schedule="cosine-step").over(training).milestones == []
    with pytest.raises(ValueError, match="lie below epochs"):
        PretrainRun(epochs=45).over(training)


def test_logit_norm():
    """L2 sheet 15: blind to the logits' scale, cross-entropy of unit logits over tau, never below its floor."""
    logits, labels = torch.randn(6, 10, generator=torch.Generator().manual_seed(0)), torch.arange(6)
    loss, terms = LogitNorm(0.1)(logits, labels, None)
    unit = logits / logits.norm(dim=1, keepdim=True)
    assert loss == pytest.approx(float(torch.nn.functional.cross_entropy(unit / 0.1, labels)), rel=1e-5)
    assert terms["ce"] == loss
    assert LogitNorm(0.1)(logits * 50, labels, None)[0] == pytest.approx(float(loss), rel=1e-5)
    best = torch.eye(10) - 0.1  # the logits that point furthest to their class
    floor = math.log(1 + 9 * math.exp(-math.sqrt(10 / 9)))
    assert float(LogitNorm(1.0)(best, torch.arange(10), None)[0]) == pytest.approx(floor, rel=1e-5)
    assert floor == pytest.approx(1.42, abs=0.005)


def test_training_learns_and_records(tmp_path):
    _, history = train(tmp_path, epochs=12)
    assert history[-1]["ce"] < 0.5 * history[0]["ce"]
    assert set(history[0]) == {"lr", "loss", "ce", "outlier", "accuracy", "outliers"}
    assert sorted(p.name for p in (tmp_path / "epochs").iterdir()) == [f"{e:03d}.safetensors" for e in range(1, 13)]


def test_equal_seeds_give_equal_bits_and_others_do_not(tmp_path):
    one, again, other = (train(tmp_path / name, seed=seed)[0] for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("steps", [1, 3, 5, 8, 11])
def test_resume_is_exact(tmp_path, steps):
    """With dropout, augmentation, momentum and outliers; stopped anywhere within an epoch or between two."""
    whole, history = train(tmp_path / "whole")
    with pytest.raises(Stop):
        train(tmp_path / "stopped", StopAfter(steps))
    resumed, resumed_history = train(tmp_path / "stopped")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert history == resumed_history
    files = [{p.name: p.read_bytes() for p in (tmp_path / d / "epochs").iterdir()} for d in ("whole", "stopped")]
    assert files[0] == files[1]


def test_what_is_kept_may_be_the_moving_average_of_the_weights(tmp_path):
    """By the definition, from the weights after every step; resumed, it goes on where it was."""
    decay, seen = 0.8, []

    def fit(name, progress):
        settings = recipe(ema=decay, epochs=2)
        trainer = Trainer(Accelerator(cpu=True), Runtime(device="cpu"), settings, tmp_path / name, progress, keep=lambda e: True)
        model = net()
        progress.trainer = trainer
        trainer.fit(model, Objective(), TrainingBatches(images(), 8, Augment()), 0)
        return {k: v.clone() for k, v in model.state_dict().items()}

    class Watching(Silent):
        def step(self):  # called before every step
            seen.append({k: v.clone() for k, v in self.trainer.whole.state_dict().items()})

        def advance(self, note=""):
            self.last = {k: v.clone() for k, v in self.trainer.whole.state_dict().items()}

    watching = Watching()
    kept = fit("whole", watching)
    after = [*seen[1:], watching.last]
    for key in ("fc.weight", "backbone.stem.weight", "backbone.bn.running_var"):
        expected = after[0][key]
        for weights in after[1:]:
            expected = decay * expected + (1 - decay) * weights[key]
        assert torch.allclose(kept[key], expected, atol=1e-6), key
        assert not torch.allclose(kept[key], watching.last[key], atol=1e-6)
    stored = load_file(tmp_path / "whole/epochs/002.safetensors")
    assert all(torch.equal(stored[key], kept[key]) for key in kept)
    with pytest.raises(Stop):
        fit("stopped", StopAfter(4))
    resumed = fit("stopped", Silent())
    assert all(torch.equal(kept[key], resumed[key]) for key in kept)


def test_every_training_of_a_network_draws_its_own_batches(tmp_path, monkeypatch):
    """The trainer is told how many trainings a network has had, or a fine-tuning would see its pretraining's order again."""
    turns = []

    def fit(self, net, objective, batches, seed, turn):
        turns.append(turn)
        return [{"loss": 0.0}]

    monkeypatch.setattr(Trainer, "fit", fit)
    monkeypatch.chdir(tmp_path)
    trained_twice = Spec({"name": "wrn_10_1"}, list("abc"), 8, [0.5] * 3, [0.5] * 3, trainings=2)
    run = Run("stages/um.py", "um", [0, 1], recipe(epochs=1), Runtime(device="cpu", threads=1), settings=[], inputs=[])
    run.train(lambda seed: Start(net(), trained_twice, Objective()), TrainingBatches(images(), 8, Augment()), Silent())
    assert turns == [2, 2]
    assert [load_spec(MODELS / "um" / seed).trainings for seed in "01"] == [3, 3]


def test_a_loss_that_explodes_is_an_error(tmp_path):
    trainer = Trainer(Accelerator(cpu=True), Runtime(device="cpu"), recipe(lr=1e3, epochs=12), tmp_path, Silent())
    with pytest.raises(InputError, match="Lower the learning rate"):
        trainer.fit(net(), Objective(), TrainingBatches(images(), 8, Augment()), 0)


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"channels_last": True}])
def test_fast_settings_stay_near_the_reference(tmp_path, change):
    torch.set_num_threads(1)
    losses = []
    for name, setting in (("plain", {}), ("fast", change)):
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state()
        runtime = Runtime(device="cpu", threads=1, **setting)
        accelerator = Accelerator(cpu=True, mixed_precision={"fp32": "no"}.get(runtime.precision, runtime.precision))
        trainer = Trainer(accelerator, runtime, recipe(epochs=3, lr=0.02), tmp_path / name, Silent())
        losses.append(trainer.fit(net(0.0), Objective(), TrainingBatches(images(), 8, Augment()), 0)[-1]["ce"])
    AcceleratorState._reset_state()
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


class Counting(torch.nn.Module):
    """Notes the size of every batch that the network sees."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.fc, self.seen = inner, inner.fc, []

    def forward(self, x):
        self.seen.append(len(x))
        return self.inner(x)


def test_inliers_and_outliers_share_one_forward_pass(tmp_path):
    """OE sheet 3: batch normalisation must see the concatenated batch."""
    counting = Counting(net())
    trainer = Trainer(Accelerator(cpu=True), Runtime(device="cpu", threads=1), recipe(epochs=1), tmp_path, Silent())
    trainer.fit(counting, OutlierExposure(0.5), TrainingBatches(images(), 8, Augment(), images(40, 1), 16), 0)
    assert counting.seen == [24, 24, 20]


def plain_training(folder, objective, model, epochs=30):
    trainer = Trainer(Accelerator(cpu=True), Runtime(device="cpu", threads=1), recipe(epochs=epochs, lr=0.05), folder, Silent())
    return trainer.fit(model, objective, TrainingBatches(images(24), 8, Augment()), 0)


def test_the_constraint_keeps_the_loss_at_its_level(tmp_path):
    """UM sheet 15: the running cross-entropy hovers around b, where plain cross-entropy goes to zero."""
    plain = plain_training(tmp_path / "plain", Objective(), net(0.0))
    constrained = plain_training(tmp_path / "um", Objective(b=0.3), net(0.0))
    assert plain[-1]["ce"] < 0.05
    assert 0.15 < sum(row["ce"] for row in constrained[-10:]) / 10 < 0.6


def test_normalised_features_get_below_the_floor_of_unit_rows(tmp_path):
    """L2 sheet 13: the head's rows grow, so the loss falls below ln(1 + (C-1) exp(-C/(C-1))) = 0.37 for three classes."""
    torch.manual_seed(0)
    model = nets.build("wrn_10_1", num_classes=3, size=8, normalize=True)
    history = plain_training(tmp_path, Objective(), model, epochs=60)
    assert history[-1]["ce"] < math.log(1 + 2 * math.exp(-3 / 2))
    assert model.fc.weight.norm(dim=1).mean() > 1


def test_a_history_of_one_epoch_can_be_drawn(tmp_path):
    from ood.evaluation.tracing import draw, summarise

    rows = [{"seed": 0, "epoch": 1, "validation_auroc": 0.7, "validation_fpr_ood_at_tpr95_id": 0.5}]
    (tmp_path / "h.csv").write_text("seed,epoch,lr,loss\n0,1,0.1,0.5\n")
    summary = summarise(rows, ["validation"])
    draw(tmp_path / "p.png", "one", rows, tmp_path / "h.csv", summary)
    assert summary["picked_epoch"] == summary["last_epoch"] == 1
    assert (tmp_path / "p.png").stat().st_size > 1000


# --- fingerprint, lock, files


def test_fingerprint_sees_settings_inputs_and_code(tmp_path, monkeypatch):
    file = tmp_path / "input"
    file.write_text("a")
    base = fingerprint("stages/um.py", {"lr": 1}, [file], "cpu")
    assert fingerprint("stages/um.py", {"lr": 1}, [file], "cpu") == base
    assert fingerprint("stages/um.py", {"lr": 2}, [file], "cpu") != base
    assert fingerprint("stages/oe.py", {"lr": 1}, [file], "cpu") != base
    assert fingerprint("stages/um.py", {"lr": 1}, [file], "cuda") != base
    file.write_text("b")
    assert fingerprint("stages/um.py", {"lr": 1}, [file], "cpu") != base


def lock_held_for(seconds: float, folder: Path) -> subprocess.Popen:
    """Another process that has the lock of the work 'um', x by now."""
    code = "import time; from ood.training.checkpoint import Scratch\n"
    code += f"with Scratch('um', 'x'): print('held', flush=True); time.sleep({seconds})"
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert holder.stdout.readline() == b"held\n"
    return holder


def test_lock_names_its_holder_and_ends_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("OOD_SCRATCH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    holder = lock_held_for(60, tmp_path)
    with pytest.raises(InputError, match=f"process {holder.pid}"), Scratch("um", "x", patience=0.5):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with Scratch("um", "x", patience=5):
        assert (tmp_path / "um" / "x.lock").read_text() == f"{os.getpid()}\n"


def test_two_works_exclude_each_other_in_one_place_only(tmp_path, monkeypatch):
    """Other settings in the same workspace wait (they write the same outputs); in another workspace they don't."""
    monkeypatch.setenv("OOD_SCRATCH", str(tmp_path / "scratch"))
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    with Scratch("um", "x"):
        with pytest.raises(InputError, match="already running"), Scratch("um", "y", patience=0.3):
            pass
        with Scratch("oe", "y", patience=0.3):
            pass
        monkeypatch.chdir(tmp_path / "two")
        with Scratch("um", "y", patience=0.3):
            pass


def test_a_waiter_goes_on_when_the_holder_is_done(tmp_path, monkeypatch):
    monkeypatch.setenv("OOD_SCRATCH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    holder = lock_held_for(1.5, tmp_path)
    begin = time.monotonic()
    with Scratch("um", "x", patience=30):
        assert time.monotonic() - begin > 0.5
    holder.wait()


def publish_and_die(folder: Path, die_at: int) -> int:
    """In a forked process: publish three files, and vanish at the n-th call that changes the disk. Returns the exit status."""

    def publish() -> None:
        os.chdir(folder)
        os.environ["OOD_SCRATCH"] = ".scratch"
        with Scratch("um", "x") as scratch:
            model, finished = scratch.path / "model", scratch.path / "finished.json"
            if not finished.exists():
                model.mkdir(exist_ok=True)
                for name in ("a", "b", "c"):
                    (model / name).write_text(name)
                finished.write_text("{}")
            scratch.publish({model: Path("out/model"), finished: Path("out/finished.json")})

    return dying_at(die_at, publish)


def test_a_death_at_any_call_while_publishing_loses_nothing(tmp_path):
    """What is trusted after a death is whole: the next run publishes all three files, whichever system call was the last."""
    for die_at in range(1, 200):
        folder = tmp_path / str(die_at)
        (folder / "out" / "model").mkdir(parents=True)
        (folder / "out" / "model" / "old").write_text("old")
        died = publish_and_die(folder, die_at)
        assert died in (0, 9)
        assert publish_and_die(folder, 0) == 0
        assert sorted(p.name for p in (folder / "out/model").iterdir()) == ["a", "b", "c", SUMS]
        assert (folder / "out/finished.json").read_text() == "{}"
        if died == 0:
            assert die_at > 15, "the deaths must have covered many calls"
            return
    raise AssertionError("it never got through")


def test_publish_replaces_outputs_and_clears_the_scratch_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OOD_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "out" / "model"
    target.mkdir(parents=True)
    (target / "old").write_text("old")
    with Scratch("um", "x") as scratch:
        (scratch.path / "model").mkdir()
        (scratch.path / "model" / "new").write_text("new")
        scratch.publish({scratch.path / "model": target})
    assert sorted(p.name for p in target.iterdir()) == ["new", SUMS]
    assert not scratch.path.exists()


def test_a_failed_write_leaves_the_old_content(tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").write_text("old")

    def fail() -> None:
        with in_place_of(target) as fresh:
            (fresh / "new").write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [p.name for p in target.iterdir()] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    write_text(tmp_path / "a" / "b.txt", "text")
    assert (tmp_path / "a" / "b.txt").read_text() == "text"


# --- real kills of real stages

DIE_IN_SAVE = """
import os, pathlib, signal, sys, typer
whole, saves = pathlib.Path.write_bytes, 0
def save(path, content):
    global saves
    saves += 1
    whole(path, content)
    if saves == int(os.environ["DIE_AT"]):
        with open(path, "r+b") as file:      # half of the new checkpoint is on disk when the power goes
            file.truncate(os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.write_bytes = save
import importlib
command = os.environ["STAGE"].split()
sys.argv = command
typer.run(importlib.import_module("stages." + command[0].replace("-", "_")).main)
"""


@pytest.mark.slow
def test_kill_during_a_checkpoint_write(trained: Workspace, prepared: Workspace, tmp_path):
    workspace = prepared.copy(tmp_path)
    for die_at in ("2", "3"):
        result = workspace.run("python", "-c", DIE_IN_SAVE, check=False, DIE_AT=die_at, STAGE="pretrain ce")
        assert result.returncode == -signal.SIGKILL
        assert not (workspace.path / "data/models/ce").exists()
        assert list(workspace.path.rglob(".*.json.*.tmp" if die_at == "3" else ".checkpoint.pt.*.tmp")), (
            "the kill must have hit an unfinished write"
        )
    workspace.stage("pretrain ce")
    assert workspace.hashes("data/models/ce") == trained.hashes("data/models/ce")
    assert not list((workspace.path / ".scratch").rglob("*.tmp"))


STAGES = ["pretrain ce", "um um", "um control", "umap umap", "umap umap-control", "oe oe", "oe oe-um", "oe poem", "oe doe"]


@pytest.mark.slow
@pytest.mark.parametrize("command", STAGES)
def test_kill_at_random_moments(trained: Workspace, tmp_path, command):
    """SIGKILL while a checkpoint is written, then twice at arbitrary moments; the outputs equal an uninterrupted run's, bit for bit."""
    run = command.split()[-1]
    whole, killed = trained.copy(tmp_path / "whole"), trained.copy(tmp_path / "killed")
    for workspace in (whole, killed):
        # More epochs than the miniature's, so that there is something to kill.
        workspace.set({f"{section}.training.epochs": 8 for section in ("pretrain", "um", "umap", "oe")})
    whole.stage(command)
    died = killed.run("python", "-c", DIE_IN_SAVE, check=False, DIE_AT="3", STAGE=command)
    assert died.returncode == -signal.SIGKILL
    kills, chance = 0, random.Random(command)
    for _ in range(40):
        before = progress_of(killed)
        process = killed.start(command)
        deadline = time.monotonic() + 120
        # Let it get at least one step further, then kill it at an arbitrary moment.
        while process.poll() is None and progress_of(killed) == before and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.4))
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        kills += 1
        if kills == 2:
            killed.stage(command)
            break
    assert kills >= 1
    assert killed.hashes(f"data/models/{run}") == whole.hashes(f"data/models/{run}")
    assert killed.hashes("metrics/training") == whole.hashes("metrics/training")


def progress_of(workspace: Workspace) -> list[float]:
    """Modification times of the checkpoints in the scratch folder."""
    times = []
    for path in (workspace.path / ".scratch").rglob("checkpoint.pt"):
        try:
            times.append(path.stat().st_mtime)
        except FileNotFoundError:
            continue
    return sorted(times)


@pytest.mark.slow
def test_what_a_launcher_leaves_in_the_environment_changes_no_training(prepared, tmp_path):
    """Gradient accumulation from outside params.yaml gave another net under the same fingerprint."""
    plain, other = prepared.copy(tmp_path / "plain"), prepared.copy(tmp_path / "other")
    plain.stage("pretrain ce")
    settings = {"GRADIENT_ACCUMULATION_STEPS": "8", "MIXED_PRECISION": "bf16", "DYNAMO_BACKEND": "EAGER", "GRADIENT_CLIPPING": "0.01"}
    other.stage("pretrain ce", **{f"ACCELERATE_{name}": value for name, value in settings.items()})
    assert plain.hashes("data/models") == other.hashes("data/models")

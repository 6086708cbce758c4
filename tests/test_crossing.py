"""BOOD: features near the boundary of their class, pushed across it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from ood.config.dream import EmbedRun
from ood.dream import crossing
from ood.dream.alignment import cosine_logits
from ood.dream.space import Space, figures
from ood.errors import InputError

WIDTH = 48


def anchors(classes: int = 5) -> torch.Tensor:
    return 0.4 * F.normalize(torch.randn(classes, WIDTH, generator=torch.Generator().manual_seed(1)), dim=1)


def features(count: int = 60, spread: float = 0.6, label: int = 2) -> torch.Tensor:
    """Of any length, around an anchor; a few of them so far that they are misclassified."""
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(count, WIDTH, generator=generator) / WIDTH**0.5
    around = F.normalize(anchors()[label], dim=0) + spread * torch.linspace(0.1, 6, count)[:, None] * noise
    return around * (0.5 + torch.rand(count, 1, generator=generator))


def run(**changed: object) -> EmbedRun:
    settings = {"method": "crossing", "count": 10, "step": 0.05, "boundary": 10, "features_per_class": 60}
    return EmbedRun(**(settings | changed))


def crossed(setting: EmbedRun, label: int = 2) -> crossing.Drawn:
    return crossing.cross(features(), anchors(), label, 0.1, setting, (0,), "cat")


def predicted(vectors: torch.Tensor) -> torch.Tensor:
    return cosine_logits(vectors, anchors(), 0.1).argmax(1)


def walk(setting: EmbedRun) -> tuple[torch.Tensor, ...]:
    unit = F.normalize(features(), dim=1)
    return (unit, *crossing.walked(unit, F.normalize(anchors(), dim=1), 2, 0.1, setting))


def test_the_direction_is_the_gradient():
    z = features().double().requires_grad_(True)
    labels = torch.full((len(z),), 2)
    loss = F.cross_entropy(cosine_logits(z, anchors().double(), 0.1), labels, reduction="sum")
    (wanted,) = torch.autograd.grad(loss, z)
    assert torch.allclose(crossing.ascent(z.detach(), F.normalize(anchors().double(), dim=1), 2, 0.1), wanted, atol=1e-10)


@pytest.mark.parametrize("temperature", [0.1, 0.05, 0.03])
def test_the_direction_holds_in_single_precision_where_one_class_is_all_but_sure(temperature):
    table = F.normalize(anchors().double(), dim=1)
    noise = torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(3), dtype=torch.float64) / WIDTH**0.5
    z = F.normalize(table[2] + 0.3 * noise, dim=1)
    wanted = crossing.ascent(z, table, 2, temperature).sign()
    found = crossing.ascent(z.float(), table.float(), 2, temperature).sign()
    assert (found == wanted).double().mean() > 0.99


@pytest.mark.parametrize("beyond", [0, 1])
def test_the_last_of_the_steps_counts(beyond):
    unit, table = F.normalize(torch.tensor([[1.0, 0.9]]), dim=1), torch.eye(2)
    _, _, done = crossing.walked(unit, table, 0, 0.1, run(step=0.5, steps=beyond + 1, beyond=beyond))
    assert done.all()


def test_in_the_plane_the_number_of_steps_is_known():
    """Two classes at right angles: z lies (z0 - z1) / 2 away in every coordinate, and the first k with 2 k a > z0 - z1 is across."""
    table = torch.eye(2)
    unit = F.normalize(torch.tensor([[1.0, 0.2], [1.0, 0.5], [1.0, 0.9], [0.2, 1.0]]), dim=1)
    setting = run(step=0.02 * 2**0.5, beyond=0)  # 0.02 in each of two coordinates
    steps, reached, done = crossing.walked(unit, table, 0, 0.1, setting)
    gap = unit[:3, 0] - unit[:3, 1]
    assert torch.allclose(crossing.distance(unit, table, 0)[:3], gap / 2)
    assert steps[:3].tolist() == (gap / 0.04).floor().long().add(1).tolist()
    assert steps[3] == 0
    assert done.all()
    assert torch.equal(reached[3], unit[3]), "it is on the other side already"


def test_no_walk_is_shorter_than_the_exact_distance():
    setting = run(step=0.002, steps=4000, beyond=0)
    unit, steps, _, done = walk(setting)
    exact = crossing.distance(unit, F.normalize(anchors(), dim=1), 2)
    right = steps > 0
    assert done.all()
    assert 10 < int(right.sum()) < 60
    size = setting.step / WIDTH**0.5
    assert (steps[right] * size >= exact[right] - 1e-6).all()
    assert (exact[~right] <= 1e-6).all()
    order = torch.corrcoef(torch.stack([steps[right].float().argsort().argsort().float(), exact[right].argsort().argsort().float()]))
    assert order[0, 1] > 0.95, "small steps rank as the exact distance does"


@pytest.mark.parametrize("beyond", [0, 2])
def test_the_last_step_inside_and_the_first_outside(beyond):
    setting = run(beyond=beyond)
    unit, steps, reached, done = walk(setting)
    table, place, size = F.normalize(anchors(), dim=1), unit.clone(), setting.step / WIDTH**0.5
    path = [place]
    for _ in range(int(steps.max()) + beyond):
        place = place + size * crossing.ascent(place, table, 2, 0.1).sign()
        path.append(place)
    right = torch.nonzero((steps > 0) & done).squeeze(1)
    assert len(right) > 10
    for row in right.tolist():
        first = int(steps[row])
        assert predicted(path[first - 1][row : row + 1]) == 2
        assert predicted(path[first][row : row + 1]) != 2
        assert torch.allclose(reached[row], path[first + beyond][row])


def test_those_nearest_the_boundary_are_pushed_across():
    drawn = crossed(run())
    _, steps, _, _ = walk(run())
    assert (predicted(drawn.vectors) != 2).all()
    assert torch.allclose(drawn.vectors.norm(dim=1), anchors()[2].norm().expand(10), rtol=1e-5)
    assert (steps[drawn.seeds] > 0).all(), "a misclassified feature has no boundary to cross"
    others = [i for i in range(60) if i not in drawn.seeds.tolist() and steps[i] > 0]
    assert steps[drawn.seeds].max() <= steps[others].min()
    assert torch.equal(drawn.distance, steps[drawn.seeds].float())
    assert torch.equal(drawn.walks, steps)
    assert torch.equal(crossed(run()).vectors, drawn.vectors)


def test_equally_far_ones_are_ranked_by_their_exact_distance():
    setting = run(step=1.0, boundary=8, count=8)
    unit, steps, _, _ = walk(setting)
    exact = crossing.distance(unit, F.normalize(anchors(), dim=1), 2)
    drawn = crossed(setting)
    last = steps[drawn.seeds].max()
    tied = [i for i in range(60) if steps[i] == last and i not in drawn.seeds.tolist()]
    assert tied, "coarse steps tie"
    chosen = [i for i in drawn.seeds.tolist() if steps[i] == last]
    assert max(exact[i] for i in chosen) <= min(exact[i] for i in tied)


def test_few_vectors_take_turns():
    drawn = crossed(run(count=25))
    _, counts = drawn.seeds.unique(return_counts=True)
    assert len(drawn.boundary) == 10
    assert set(counts.tolist()) == {2, 3}


def test_random_ones_are_its_control():
    nearest, other = crossed(run()), crossed(run(selection="random"))
    assert (predicted(other.vectors) != 2).all()
    assert other.distance.mean() > nearest.distance.mean()
    assert torch.equal(other.vectors, crossed(run(selection="random")).vectors)


def test_the_reference_takes_misclassified_ones_first_and_keeps_their_length():
    drawn = crossed(run(selection="reference"))
    _, steps, reached, _ = walk(run(selection="reference"))
    assert steps[drawn.seeds].min() == 0
    assert torch.allclose(drawn.vectors.norm(dim=1), reached[drawn.seeds].norm(dim=1) * anchors()[2].norm(), rtol=1e-5)
    assert drawn.vectors.norm(dim=1).std() > 1e-3, "of the length that the walk has left"


def test_what_does_not_cross_is_an_error_or_left_out():
    with pytest.raises(InputError, match=r"class 'cat': none of its 60 features crosses the boundary within 3 steps of 0\.001"):
        crossed(run(step=0.001, steps=3))
    few = crossed(run(boundary=60, steps=8))
    assert 0 < len(few.boundary) < 60
    assert (predicted(few.vectors) != 2).all()
    assert (few.walks < 0).any()
    with pytest.raises(InputError, match="class 'cat': a feature is zero or not finite"):
        crossing.cross(features() * 0, anchors(), 2, 0.1, run(), (0,), "cat")


def test_the_figures_count_what_takes_no_part():
    setting = run(boundary=60, steps=8)
    drawn = crossed(setting)
    space = Space(features().numpy(), np.zeros(60), anchors()[[2, 0, 1, 3, 4]].numpy(), list("cabde"), 0.1)  # the class comes first
    found = figures([drawn], space, setting)
    _, steps, _, done = walk(setting)
    assert found["misclassified"] == pytest.approx(float((steps == 0).float().mean()))
    assert found["not_crossing"] == pytest.approx(float((~done).float().mean()))
    assert 0 < found["misclassified"] < 1
    assert 0 < found["not_crossing"] < 1
    assert found["distinct"] == len(drawn.boundary)
    assert found["steps"] == pytest.approx(drawn.distance.mean().item())
    assert found["nearest_is_own"] == 0
    assert figures([drawn], space, EmbedRun(method="encoder_noise", cosine=0.5, count=10)) == {}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"step": None}, "step belongs to method crossing"),
        ({"method": "knn", "cosine": 0.7}, "step belongs to method crossing"),
        ({"beyond": 100}, "beyond .100. leaves none of 100 steps"),
        ({"method": "knn", "cosine": 0.7, "step": None, "selection": "random"}, "the control of method crossing"),
        ({"mode": "inlier"}, "mode 'inlier' needs method 'knn'"),
        ({"cosine": 0.7}, "cosine belongs to"),
    ],
)
def test_settings_that_say_nothing_are_refused(changed, said):
    with pytest.raises(ValidationError, match=said):
        run(**changed)

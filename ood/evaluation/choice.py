"""Which model and which score become the detector: by name, or the best on validation. Test figures play no part."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ood.config.detector import AUTO, Detector
from ood.detection import posthoc
from ood.errors import InputError
from ood.evaluation.figures import SeedResult
from ood.evaluation.groups import group_means


class Choice(NamedTuple):
    """A model and a score. picked: whether validation chose both. by: the mean AUROC on validation OOD, over its sets and seeds.

    held_out: the same on ID classes that were held out, where there are such figures (ood.evaluation.held_out).
    """

    model: str
    score: str
    picked: bool
    by: float
    held_out: float | None


def choose(setting: Detector, results: Mapping[str, dict[str, Any]], models: Mapping[str, str]) -> Choice:
    """The detector's model and score.

    A score that isn't named is the one that validation picked for the model (ood.evaluation.models). Models are compared by validation OOD
    alone: held-out classes are there for some and not for others. Those that are right on ID validation less often than the best, by more
    than setting.accuracy, don't take part: who wants a detector wants a classifier. The first listed of equals is taken.

    Args:
        results: model -> its summary, as `evaluate` wrote it. models: model -> own score; what is listed now.

    Raises:
        InputError: a score that wasn't computed.
    """
    names = [setting.model] if setting.model not in (None, AUTO) else list(models)
    all_seeds = {name: [SeedResult(**seed) for seed in results[name]["seeds"].values()] for name in names}
    right = {name: sum(seed.id["val"]["accuracy"] for seed in seeds) / len(seeds) for name, seeds in all_seeds.items()}
    found = []
    for name, seeds in all_seeds.items():
        summary = results[name]
        if right[name] < max(right.values()) - setting.accuracy:
            continue
        score = summary["picked"] if setting.score == AUTO else setting.score
        if score not in seeds[0].grid and setting.model == AUTO:
            continue  # it needs what this network hasn't, a branch perhaps
        if score not in seeds[0].grid:
            raise InputError(f"params.yaml: detector.score: {score} isn't among those that are computed. Add it to scores.used.")
        by = sum(group_means(seed.grid[score])["validation"]["auroc"] for seed in seeds) / len(seeds)
        held = [value for seed in seeds for value in seed.held_out.get(score, {}).values()]
        found.append(Choice(name, score, AUTO == setting.model == setting.score, by, sum(held) / len(held) if held else None))
    if not found:
        raise InputError(
            f"params.yaml: detector.score: {setting.score} isn't among those that are computed of a model that is right often enough. Add "
            "it to scores.used, or name a model that has it."
        )
    if setting.model == AUTO and setting.score in posthoc.FITTED_ON_VALIDATION:
        raise InputError(
            f"params.yaml: detector: {setting.score} is fitted on the images that validation OOD is told from, so validation can't say for "
            "which model it is best. Name the model, or another score."
        )
    return max(found, key=lambda choice: choice.by)

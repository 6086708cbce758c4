"""From a model's cached tensors to a member of a detector: its score fitted on ID training images, its temperature on ID validation."""

import torch

from ood.config.evaluation import Odin, Scores
from ood.config.training import Runtime
from ood.deploy.answers import Member
from ood.detection import detectors
from ood.detection.detectors import Outputs
from ood.detection.from_images import FROM_IMAGES, from_images
from ood.detection.scores import Head
from ood.errors import InputError
from ood.evaluation.calibration import fit_temperature
from ood.evaluation.features import load
from ood.nets import store
from ood.training.devices import placed


def member_of(model: str, seed: int, score: str, scores: Scores, setting: Odin | None, runtime: Runtime, device: torch.device) -> Member:
    """A model's network of one seed with a score.

    Raises:
        InputError: it hasn't been trained or extracted yet; a setting that its features can't serve; ODIN without its setting.
    """
    cached = load(model, seed)
    validation = cached.sets["id/val"]
    temperature = fit_temperature(validation["logits"].double().numpy(), validation["labels"].numpy())
    net, _ = store.load(store.MODELS / model / str(seed))
    placed(net, device, runtime)
    if score in FROM_IMAGES:
        if score == "odin" and setting is None:
            raise InputError("params.yaml: features.odin: null, but the detector's score is odin. Give it values.")
        return Member(net, from_images(setting, turns=net.rotation is not None)[score], temperature)
    head, train = cached.head, cached.sets["id/train"]
    try:
        seen = Outputs.of(head, train["logits"], train["features"])
        fitted = detectors.fit([score], head, seen, train["labels"], validation["logits"], scores)[score]
    except ValueError as error:
        raise InputError(f"params.yaml: scores: {error}. Lower the value.") from None
    head = Head(net.fc.weight.detach(), net.fc.bias.detach(), net.normalize)
    state = {name: value.to(device) for name, value in fitted.state.items()}
    return Member(net, detectors.restored(score, head, scores, state), temperature)

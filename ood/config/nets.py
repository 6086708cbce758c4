"""The networks by name: which there are, which image sizes they take, which options they know. Imports neither torch nor timm."""

import re
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, model_validator

from ood.config import Section, place
from ood.config.bounds import Below


class Family(NamedTuple):
    """A kind of network.

    pattern: of its names. shown: how a person would write it. sizes: images must be a multiple of `step` pixels, at least `least`, at
    most `most`. options: what its section may set beside the name. ends: the layers of a net without blocks, where its name has a depth:
    every further six are one block more in each of three stages. widest: the largest width in such a name. reads: whether it takes texts,
    of any length.
    """

    pattern: str
    shown: str
    step: int
    least: int
    most: int | None
    options: frozenset[str]
    ends: int | None = None
    widest: int = 0
    reads: bool = False

    def takes(self, size: int) -> bool:
        """Whether images of so many pixels can go through it."""
        return size % self.step == 0 and size >= self.least and (self.most is None or size <= self.most)

    def sizes(self) -> str:
        """Which images it takes, in words."""
        if self.least == self.most:
            return f"{self.least} pixels"
        return f"a multiple of {self.step} pixels from {self.least}" + (f" to {self.most}" if self.most else "")


class Proposed(NamedTuple):
    """What a net's published weights were trained with. side: pixels; short: to which the short side is resized before the cut; fixed:
    whether it takes no other size without being told; head: what its last layer is called there."""

    mean: list[float]
    std: list[float]
    side: int
    short: int
    resize: str
    fixed: bool
    head: str


_PLAIN = frozenset({"dropout", "affine"})
_SHAPED = frozenset({"affine", "spectral", "slope", "shortcut"})
LITE0, PUBLISHED = "lite0", "published"  # weights that are no file
BROADEST = 2048  # channels
# Files that say what a network of transformers is, and reads.
SAYING = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt", "special_tokens_map.json"),
    *("added_tokens.json", "preprocessor_config.json"),
)
WEIGHING = (".safetensors", ".bin")
NAMED = ("timm", "transformers", "clip")  # families whose nets are others', by their names
DEEPEST = 1300  # of published nets one has more than a thousand layers
FAMILIES = {
    "wrn": Family(r"wrn_(\d{1,4})_(\d{1,4})", "wrn_<depth>_<width>", 4, 8, None, _PLAIN, 4, 64),
    "densenet_bc": Family(r"densenet_bc_(\d{1,4})_(\d{1,4})", "densenet_bc_<depth>_<growth>", 4, 8, None, _PLAIN, 4, 256),
    "airbench": Family(r"airbench_(\d{1,4})_(\d{1,4})_(\d{1,4})", "airbench_<width>_<width>_<width>", 1, 16, None, frozenset()),
    "allconv": Family(r"allconv", "allconv", 32, 32, 64, _PLAIN),
    "resnet": Family(r"resnet(18|34|50)", "resnet18, resnet34, resnet50", 8, 16, None, _SHAPED | {"stem"}),
    "cifar_resnet": Family(r"resnet_(\d{1,4})_(\d{1,4})", "resnet_<depth>_<width>", 4, 8, None, _SHAPED, 2, 64),
    "vgg": Family(r"vgg16", "vgg16", 32, 32, None, frozenset({"affine", "spectral", "slope"})),
    "cct": Family(r"cct_7_3x1", "cct_7_3x1", 4, 8, None, frozenset({"dropout", "drop_path"})),
    "convnext": Family(r"convnext_tiny", "convnext_tiny", 32, 32, None, frozenset({"drop_path"})),
    "timm": Family(r"timm/([\w.\-]+)", "timm/<any of timm's names>", 1, 4, None, frozenset({"dropout", "drop_path"})),
    "gru": Family(r"gru_(\d{1,4})_(\d{1,4})", "gru_<layers>_<width>", 1, 1, None, frozenset({"embedding"}), None, 2048, reads=True),
    "transformers": Family(
        r"transformers/(.+)", "transformers/<folder, or name on the hub>", 1, 1, None, frozenset({"dropout", "pooling"}), reads=True
    ),
    "clip": Family(r"clip/(.+)", "clip/<folder, or name on the hub>", 1, 4, None, frozenset()),
    "mnist_convnet": Family(r"mnist_convnet", "mnist_convnet", 28, 28, 28, frozenset({"dropout"})),
}


def _parsed(name: str) -> tuple[str, list[int | str]]:
    """The key of a network's Family, and what its name says beside (numbers, another's name); a ValueError where there is none."""
    for key, family in FAMILIES.items():
        if found := re.fullmatch(family.pattern, name):
            return key, [part if key in NAMED else int(part) for part in found.groups()]
    raise ValueError(f"no such network. Known: {', '.join(family.shown for family in FAMILIES.values())}")


def _makes_a_network(name: str) -> str:
    key, numbers = _parsed(name)
    family = FAMILIES[key]
    if family.ends is not None:
        depth, width = (int(number) for number in numbers)
        if depth <= family.ends or (depth - family.ends) % 6 or width < 1:
            shown = ", ".join(str(family.ends + 6 * blocks) for blocks in range(1, 7))
            raise ValueError(f"{family.shown} needs a depth of {shown}, ... and a width of at least 1")
        if depth > DEEPEST or width > family.widest:
            raise ValueError(f"{family.shown}: at most {DEEPEST} deep and {family.widest} wide can be trained. Lower it")
    if key == "gru" and not (1 <= int(numbers[0]) <= 16 and 1 <= int(numbers[1]) <= family.widest):
        raise ValueError(f"{family.shown}: 1 to 16 layers, 1 to {family.widest} wide, can be trained. Change it")
    if key == "airbench" and not 1 <= min(map(int, numbers)) <= max(map(int, numbers)) <= BROADEST:
        raise ValueError(f"{family.shown}: widths from 1 to {BROADEST} can be trained. Change them")
    return name


class Net(Section, key="net"):
    """A backbone by name (see FAMILIES and ood.nets.build) and the options that change its architecture.

    stem: of resnet18, 34, 50: small (3x3, stride 1, no pooling) or imagenet (7x7, stride 2, pooling). spectral: largest spectral norm of
    every convolution (null: not held); slope: of Leaky ReLU (0: ReLU); shortcut: where ResNets change shape, a 1x1 convolution or average
    pooling with zero-padded channels (the L2 paper's nets). embedding: numbers that gru knows of a word. pooling: how an
    encoder's states of words become one of a text: their mean, or the first one's. drop_path: largest rate of stochastic depth. weights:
    what the backbone starts from; null: untrained. A file (safetensors, or a state dict that torch.save wrote), published (timm's hub, or
    what lies beside an encoder's or a CLIP's config.json), or lite0 (of timm/tf_efficientnet_lite0, from a package, without any hub).
    """

    name: Annotated[str, AfterValidator(_makes_a_network), AfterValidator(place)]
    dropout: Below = 0.0
    affine: bool = True
    stem: Literal["small", "imagenet"] = "small"
    spectral: float | None = Field(None, ge=1e-3, le=1e3)
    slope: Below = 0.0
    shortcut: Literal["convolution", "average"] = "convolution"
    drop_path: Below = 0.0
    embedding: int = Field(50, ge=1, le=BROADEST)
    pooling: Literal["mean", "first"] = "mean"
    weights: Annotated[str, AfterValidator(place)] | None = None

    @property
    def family(self) -> str:
        """The key of its Family."""
        return _parsed(self.name)[0]

    @property
    def arguments(self) -> list[int | str]:
        """What its name says beside the family, which its constructor takes."""
        return _parsed(self.name)[1]

    @property
    def timm(self) -> str | None:
        """Its name in timm, if it is one of timm's."""
        return str(self.arguments[0]) if self.family == "timm" else None

    @property
    def transformers(self) -> str | None:
        """Its folder, or its name on the hub, if it is one of transformers' encoders."""
        return str(self.arguments[0]) if self.family == "transformers" else None

    @property
    def clip(self) -> str | None:
        """Its folder, or its name on the hub, if it is a CLIP."""
        return str(self.arguments[0]) if self.family == "clip" else None

    @property
    def given(self) -> str | None:
        """Its name among those who say what it is, if others do."""
        return str(self.arguments[0]) if self.family in NAMED else None

    @property
    def place(self) -> Path | None:
        """The folder or file here that it is made of, or begins with, if there is one."""
        return next((Path(name) for name in (self.transformers, self.clip, self.weights) if name and Path(name).exists()), None)

    @property
    def elsewhere(self) -> bool:
        """Whether a hub is asked what it is, whose answer may be another tomorrow."""
        folder = self.transformers or self.clip
        return self.weights == PUBLISHED if folder is None else not Path(folder).is_dir()

    @property
    def files(self) -> list[Path]:
        """The files here that it is made of, or begins with."""
        named = self.transformers or self.clip
        beside = sorted(Path(named).glob("*")) if named else []
        found = [
            path
            for path in beside
            if path.name in SAYING or (self.weights and (path.suffix in WEIGHING or path.name.endswith(".index.json")))
        ]
        return [*found, *([Path(self.weights)] if self.weights and Path(self.weights).is_file() else [])]

    @property
    def features(self) -> int | None:
        """How many features its head sees; None: only its authors know."""
        match self.family, self.arguments:
            case (("timm" | "transformers" | "clip"), _):
                return None
            case "wrn" | "cifar_resnet", [_, int(width)]:
                return 64 * width
            case ("airbench", [_, _, int(width)]) | ("gru", [_, int(width)]):
                return width
            case "densenet_bc", [int(depth), int(growth)]:
                blocks, channels = (depth - 4) // 6, 2 * growth
                for _ in range(2):
                    channels = (channels + blocks * growth) // 2
                return channels + blocks * growth
            case "resnet", [depth]:
                return 2048 if depth == 50 else 512
            case family, _:
                return {"allconv": 192, "vgg": 512, "cct": 256, "convnext": 768, "mnist_convnet": 50}[family]

    def misfit(self, size: int, *, text: bool = False) -> str | None:
        """Why images of so many pixels, or texts of so many words, can't go through it; None if they can."""
        family = FAMILIES[self.family]
        if family.reads != text:
            return f"{self.name} takes {'texts' if family.reads else 'images'}, and data.kind is {'text' if text else 'images'}"
        fits = family.takes(size) and not (self.stem == "imagenet" and size % 32)
        needs = "a multiple of 32 pixels" if self.stem == "imagenet" else family.sizes()
        return None if fits else f"{self.name} takes images of {needs}; these have {size}"

    @model_validator(mode="after")
    def _only_known_options(self) -> "Net":
        known = FAMILIES[self.family].options
        for name, field in type(self).model_fields.items():
            if name not in ("name", "weights") and name not in known and getattr(self, name) != field.default:
                raise ValueError(f"{self.name} has no option {name}; it knows {', '.join(sorted(known))}. Set it to {field.default!r}")
        return self

"""The folder that a detector is handed on in: safetensors, JSON, a README. Nothing in it is code, and nothing is used before it is checked.

config.json               Bundle: classes, networks, the image chain, the score, the rule, versions, the hashes of all files
tokenizer.json            of texts, which have no image chain: what gives their words numbers (of the library tokenizers)
network-<n>.safetensors   weights of each network; score-<n>.safetensors: what its score fitted
calibration.safetensors   'scores' and 'predicted' (n,) of the calibration images, 'probe' (batch,): scores of noise (Ensemble.probe)
thumbnails.safetensors    'images' uint8 (k, side, side, 3), 'features' (k, D), 'labels' (k,) of some training images; not there where none
                          were asked for
README.md                 the model card

Hashes find damage and changes by hand; who can write into the folder can also write new hashes, and gains wrong answers by that, no more.
"""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from ood.config import Section, distinct
from ood.config.bounds import Batch, Temperature
from ood.config.data import Chain
from ood.config.detector import Rejected, Sureness
from ood.config.evaluation import Odin, ScoreName, Scores
from ood.config.nets import Net
from ood.config.text import TextChain
from ood.data.texts import TOKENIZER, Words
from ood.deploy.answers import BATCHES
from ood.errors import InputError
from ood.files import sha256, write_text

FORMAT = 1
LIBRARIES = ("torch", "torchvision", "timm", "transformers", "tokenizers", "numpy", "pillow", "safetensors")
CONFIG, CARD, CALIBRATION, THUMBNAILS = "config.json", "README.md", "calibration.safetensors", "thumbnails.safetensors"
SHA256 = r"[0-9a-f]{64}"
LARGEST = 2**24  # bytes of config.json: a hundred thousand classes
ClassName = Annotated[str, Field(min_length=1, max_length=1000)]


class Network(Section):
    """One network: what to build, whether its head normalises, and the temperature that its logits are divided by.

    projection: of one with a linear layer in front of its head, to how many features. config: of an encoder of transformers, what it is.
    """

    net: Net
    normalize: bool
    temperature: Temperature
    projection: Annotated[int, Field(ge=1, le=2**14)] | None = None
    config: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _says_what_it_is(self) -> "Network":
        if bool(self.net.transformers or self.net.clip) != (self.config is not None):
            raise ValueError("config: a network of transformers has it, and no other: nothing is asked of a hub")
        return self


class Rule(Section):
    """When an image is flagged (ood.detection.rule). thresholds: of each guarantee that can be given, to be read; they
    follow from the rest.
    """

    reject: Rejected
    guarantee: Literal["marginal", "conditional", "simultaneous"]
    confidence: Sureness
    per_class: bool
    images: Annotated[int, Field(ge=1)]
    thresholds: dict[str, list[float]]


class Bundle(Section):
    """config.json. model, seeds: the run that it was made of. chain: of images; text, vocabulary: of texts, how many numbers words have.
    odin: of ODIN, where that is the score. files: name -> SHA-256.
    """

    format: Literal[1]
    made_with: dict[str, str]
    model: str
    seeds: list[int]
    classes: Annotated[list[ClassName], Field(min_length=2), AfterValidator(distinct)]
    chain: Chain | None
    text: TextChain | None = None
    vocabulary: Annotated[int, Field(ge=2, le=10**7)] | None = None
    max_pixels: Annotated[int, Field(ge=1, le=10**11)]
    networks: Annotated[list[Network], Field(min_length=1)]
    batch: Batch
    channels_last: bool
    score: ScoreName
    scores: Scores
    odin: Odin | None
    rule: Rule
    thumbnails: bool
    files: dict[str, Annotated[str, Field(pattern=f"^{SHA256}$")]]
    sha256: Annotated[str, Field(pattern=f"^{SHA256}$")]

    @property
    def is_text(self) -> bool:
        """Whether it reads texts."""
        return self.text is not None

    @property
    def side(self) -> int:
        """Pixels along a side of what its networks look at; words of a text."""
        return self.chain.side if self.chain is not None else self.text.length if self.text is not None else 0

    @model_validator(mode="after")
    def _all_files_are_listed(self) -> "Bundle":
        numbers = range(len(self.networks))
        wanted = {CARD, CALIBRATION, *(weights(n) for n in numbers), *(fitted(n) for n in numbers)}
        wanted |= {THUMBNAILS} if self.thumbnails else set()
        wanted |= {TOKENIZER} if self.is_text else set()
        if self.files.keys() != wanted:
            raise ValueError(f"files: {', '.join(sorted(self.files.keys() ^ wanted))} must be listed, or must not")
        if (self.chain is None) != self.is_text or (self.vocabulary is None) == self.is_text:
            raise ValueError("chain belongs to images, text and vocabulary to texts: it has one of the two")
        largest = next(batch for side, batch in BATCHES.items() if self.side <= side)
        if self.batch not in (1, largest):
            raise ValueError(f"batch: {self.batch}, for a side of {self.side} it is {largest} or 1")
        if self.score == "odin" and self.odin is None:
            raise ValueError("odin: missing, but it is the score")
        return self


def made_with() -> dict[str, str]:
    """Versions that answers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def weights(number: int) -> str:
    """The file of a network's weights."""
    return f"network-{number}.safetensors"


def fitted(number: int) -> str:
    """The file of what its score fitted."""
    return f"score-{number}.safetensors"


def write(folder: Path, facts: dict) -> None:
    """Write config.json beside the files that are in a folder already.

    Args:
        facts: what Bundle holds, but for format, files and sha256.
    """
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors makes files that nobody else may read, and this is to be handed on
    files = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name != CONFIG}
    content = Bundle.model_validate({"format": FORMAT, **facts, "files": files, "sha256": "0" * 64}).model_dump(mode="json")
    content["sha256"] = _digest(content)
    write_text(folder / CONFIG, _text(content))


def _text(content: dict) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _digest(content: dict) -> str:
    """Of everything but itself."""
    return hashlib.sha256(_text({**content, "sha256": ""}).encode()).hexdigest()


def read(folder: Path) -> Bundle:
    """What is in a detector's folder, when every file in it is the one that was written.

    Raises:
        InputError: no detector there; of another format; a file that is missing, damaged or changed.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{folder}: no detector there ({CONFIG} is missing). Give the folder that `export` wrote (data/detector).")
    again = "Take it from where it came, or run `export` again."
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("it is too large")
        raw = path.read_bytes()
        content = json.loads(raw)
        known = content.get("format") if isinstance(content, dict) else None
        whole = known == FORMAT and content.get("sha256") == _digest(content) and _text(content).encode() == raw
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{path}: can't be read ({' '.join(str(error).split())[:200]}). {again}") from None
    if known != FORMAT:
        said = type(content).__name__ if not isinstance(content, dict) else str(known)[:40]
        raise InputError(f"{path}: format {said!r}, and this version reads {FORMAT}. Use the version of Atypical that wrote it.")
    if not whole:
        raise InputError(f"{path}: is not what was written there: damaged, or changed by hand. {again}")
    try:
        bundle = Bundle.model_validate(content)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, wrong["loc"]))
        raise InputError(f"{path}: {where}: {wrong['msg']}. Use the version of Atypical that wrote it.") from None
    for name, digest in bundle.files.items():
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: not there, but {CONFIG} lists it. {again}")
        if sha256(folder / name) != digest:
            raise InputError(f"{folder / name}: is not what was written there: damaged, or changed by hand. {again}")
    return bundle


def _content(folder: Path, bundle: Bundle, name: str) -> bytes:
    """A file, of the very bytes that its hash was compared with."""
    content = (folder / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != bundle.files[name]:
        raise InputError(f"{folder / name}: was changed while it was read. Load the detector again.")
    return content


def words(folder: Path, bundle: Bundle) -> Words:
    """What gives a detector's texts numbers.

    Raises:
        InputError: it isn't what `read` found, or isn't that of its networks.
    """
    assert bundle.text is not None  # who asks has looked
    path = folder / TOKENIZER
    try:
        found = Words.read(_content(folder, bundle, TOKENIZER), bundle.text.length)
    except ValueError as error:
        raise InputError(f"{path}: is no tokenizer ({str(error)[:200]}). Run `export` again.") from None
    if found.count != bundle.vocabulary:
        raise InputError(f"{path}: isn't the tokenizer of this detector's networks. Run `export` again.")
    return found


def tensors(folder: Path, bundle: Bundle, name: str) -> dict[str, Tensor]:
    """A file's tensors, of the very bytes that its hash was compared with.

    Raises:
        InputError: it isn't what `read` found, or holds no tensors.
    """
    content = _content(folder, bundle, name)
    try:
        return load_tensors(content)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{folder / name}: holds no tensors ({error}). Take it from where it came, or run `export` again.") from None

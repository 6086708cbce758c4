"""Sections of DREAM-OOD: prompts, the diffusion model, aligned features, outlier embeddings, painting."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ood.config import Place, Section, place
from ood.config.bounds import Batch, Below, Count, Limit, Rate, Seed, Share, Steps, Temperature
from ood.config.naming import Naming, OtherNames
from ood.config.nets import Net
from ood.config.training import Name, Training


class Prompts(Naming, key="prompts"):
    """What is said to the text encoder.

    words: class -> the part of the prompt whose embedding an outlier takes (not listed: the whole name).
    pieces: a word that the tokenizer splits is one place for the whole, its first piece alone (the paper's code), or an error.
    """

    words: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    pieces: Literal["whole", "first", "refuse"] = "whole"

    def word(self, label: str) -> str:
        """The part of the prompt that an embedding takes the place of."""
        return self.words.get(label, self.name(label))


class Optimiser(Section):
    """AdamW under a one-cycle schedule."""

    steps: Steps
    batch_size: Batch
    lr: Rate


Channels = Annotated[list[Annotated[int, Field(ge=8, le=4096, multiple_of=8)]], Field(min_length=1, max_length=4)]


class Autoencoder(Section):
    """AutoencoderKL: every further entry of `channels` halves the image once; `kl` weighs the latents' divergence from N(0, 1)."""

    channels: Channels
    latents: int = Field(4, ge=1, le=64)
    kl: float = Field(1e-4, ge=0, le=1e3)
    training: Optimiser


class Text(Section):
    """CLIPTextModel; `spread` is the standard deviation that the token table starts with."""

    width: int = Field(ge=8, le=4096)
    layers: int = Field(ge=1, le=100)
    heads: int = Field(ge=1, le=100)
    spread: float = Field(0.4, ge=1e-3, le=1e3)

    @model_validator(mode="after")
    def _divisible(self) -> "Text":
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        return self


class Unet(Section):
    """UNet2DConditionModel, cross-attention in all but the outermost blocks, and how it learns.

    empty: share of captions left empty, which is what guidance needs. ema: decay of the averaged weights that are kept.
    id_share: share of ID images in a batch; the rest are the captioned world's.
    """

    channels: Annotated[Channels, Field(min_length=2)]
    empty: Below = 0.1
    ema: Below = 0.99
    id_share: Share = 0.5
    training: Optimiser


class Small(Section):
    """The pipeline that is trained here; `size`: pixels it draws (prepared images are enlarged to it), `save_every` in steps."""

    size: int = Field(ge=8, le=4096, multiple_of=8)
    autoencoder: Autoencoder
    text: Text
    unet: Unet
    save_every: Steps = 100

    @model_validator(mode="after")
    def _divisible(self) -> "Small":
        latent = self.size >> (len(self.autoencoder.channels) - 1)
        if latent % (1 << (len(self.unet.channels) - 1)):
            raise ValueError(f"latents of {latent} pixels can't be halved {len(self.unet.channels) - 1} times; use fewer unet.channels")
        return self


class Diffusion(Section, key="diffusion"):
    """The Stable Diffusion v1-format pipeline: a hub id or folder, or null to train `small`.

    enabled: false leaves DREAM-OOD out: the stages diffusion, align, aligned and proofs then write empty folders. revision: of the hub's
    model.
    """

    enabled: bool = True
    model: Annotated[str, AfterValidator(place)] | None = None
    revision: str | None = None
    seed: Seed = 0
    small: Small


class Align(Section, key="align"):
    """Phase 1: features aligned with the token embeddings of the class names.

    net: the encoder; null: the section `net`. temperature: cosines are divided by it. anchors: a .npy file of one vector a class, in the
    classes' order, in place of the pipeline's own token embeddings (the authors' token_embed_in100.npy and token_embed_c100.npy).
    """

    net: Net | None = None
    anchors: Place | None = None
    seed: Seed = 0
    temperature: Temperature = 0.1
    training: Training

    @model_validator(mode="after")
    def _everything_learns(self) -> "Align":
        if self.training.frozen:
            raise ValueError("training.freeze: the encoder learns another space here, with its backbone. Set it to none")
        return self


class Aligned(Section, key="aligned"):
    """The encoder of phase 1 by itself, with class words as its head.

    negatives: words that mean something else, for the score neglabel: world (the names of data.world), a list, or null: without that score.
    share: of them those that stay, the ones least like a class word.
    """

    negatives: Literal["world"] | Annotated[OtherNames, Field(min_length=1)] | None = "world"
    share: Share = 1.0


class Proofs(Section, key="proofs"):
    """ID as the pipeline renders it: `round_trip`, at most so many ID test images through its autoencoder; `samples` pictures of every
    class from its plain prompt."""

    seed: Seed = 0
    round_trip: Limit = 2000
    samples: Count = 24


class EmbedRun(Section):
    """Phase 2, one way to draw embeddings.

    mode: outlier (away from the class) or inlier (near it; trained on under its label). count: vectors per class.
    method: knn (the paper); crossing (BOOD, 2025); the paper's ablations: noise on the token embedding, encoder_noise on what the text
    encoder makes of the prompt, interpolation between classes, other names.
    cosine: expected cosine of a candidate to the point that it was drawn around; stands for the spread of the Gaussian.
    k (of knn), boundary: for features_per_class features of a class, scaled in proportion to what a class has.
    seeds_per_round, candidates, keep: per round so many boundary points, candidates around each, and kept ones of each.
    selection: described (knn: the farthest, for inliers the nearest; crossing: those nearest the boundary), reference (knn: the released
    code's indexing, a random pick around every seed point, and with keep 1, as for inliers, all of a round around its first seed point;
    crossing: misclassified features first, vectors of the length that they have), random (crossing: any features, its control).
    step, steps, beyond: of crossing: the length of a step among unit features, how many at most, and how many on the other side.
    names: the other names (method names).
    """

    mode: Literal["outlier", "inlier"] = "outlier"
    method: Literal["knn", "crossing", "noise", "encoder_noise", "interpolation", "names"] = "knn"
    count: Count
    cosine: float | None = Field(None, ge=1e-3, le=0.999999)
    k: Annotated[Limit, Field(ge=2)] = 300
    boundary: Limit = 200
    features_per_class: Limit = 1000
    seeds_per_round: Limit = 50
    candidates: Count = 1500
    keep: Count = 2
    selection: Literal["described", "reference", "random"] = "described"
    step: float | None = Field(None, gt=0, le=10)
    steps: Limit = 100
    beyond: int = Field(1, ge=0, le=1000)
    names: OtherNames | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "EmbedRun":
        if (self.cosine is not None) != (self.method in ("knn", "noise", "encoder_noise")):
            raise ValueError(f"cosine belongs to the methods knn, noise and encoder_noise, and only there; method is {self.method!r}")
        if (self.step is not None) != (self.method == "crossing"):
            raise ValueError(f"step belongs to method crossing, and only there; method is {self.method!r}")
        if self.beyond >= self.steps:
            raise ValueError(f"beyond ({self.beyond}) leaves none of {self.steps} steps to reach the boundary; lower it, or raise steps")
        if self.selection == "random" and self.method != "crossing":
            raise ValueError("selection 'random' is the control of method crossing; elsewhere it is described or reference")
        if (self.names is not None) != (self.method == "names") or self.names == []:
            raise ValueError("names (at least one) belong to method 'names' and only there")
        if self.mode == "inlier" and self.method != "knn":
            raise ValueError(f"mode 'inlier' needs method 'knn'; {self.method!r} draws outliers")
        if self.keep > self.candidates:
            raise ValueError(f"keep ({self.keep}) can't exceed candidates ({self.candidates})")
        asked = {"k": self.k if self.method == "knn" else 0, "boundary": self.boundary if self.mode == "outlier" else 0}
        if above := [f"{key} ({value})" for key, value in asked.items() if value > self.features_per_class]:
            raise ValueError(f"{' and '.join(above)} can't exceed features_per_class ({self.features_per_class}), for which they are given")
        return self


class Embed(Section, key="embed"):
    """Named ways to draw embeddings."""

    seed: Seed = 0
    runs: dict[Name, EmbedRun]


class SynthesizeRun(Section):
    """`count` images per class, painted from an embed run's vectors."""

    embed: Name
    count: Count


class Painting(Section, key="painting"):
    """How the pipeline is run; every batch is a shard, saved when it is done.

    sampler: dpm, DPM-Solver++ of second order, fast; plms, the paper's, with 50 steps and guidance 7.5.
    """

    sampler: Literal["dpm", "plms"] = "dpm"
    steps: int = Field(20, ge=1, le=1000)
    guidance: float = Field(7.5, ge=1, le=1000)
    batch_size: Batch


class Synthesize(Section, key="synthesize"):
    """Sets of dreamed images."""

    seed: Seed = 0
    runs: dict[Name, SynthesizeRun]


class Judge(Section, key="judge"):
    """run: the classifier whose opinion of every dreamed image is written down (mean softmax over its seeds)."""

    run: Name

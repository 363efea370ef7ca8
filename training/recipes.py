"""Training recipes as frozen data; each carries the accuracy that it must reach."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar, Self

from fd_keras import imagenet, spec, weights, zoo

Targets = Mapping[tuple[str, float], float]  # (network, alpha) -> ImageNet validation top-1 in percent

RATIO = (3 / 4, 4 / 3)  # width to height of a training crop, torchvision's default
TOLERANCE = 0.5  # percent of top-1 below its target at which a trained network still counts as reproduced


@dataclasses.dataclass(frozen=True)
class Settings:
    """Numbers that flags may set, each checked against its range.

    Attributes:
        RANGES: (field, least, greatest) of those that have one.
    """

    RANGES: ClassVar[tuple[tuple[str, float, float], ...]] = ()

    def __post_init__(self):
        for field, low, high in self.RANGES:
            value = getattr(self, field)
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"--{field}={value}: must be between {low:g} and {high:g}.")

    def override(self, **values) -> Self:
        """A copy with other values for the fields whose value is not None; raises ValueError for impossible ones."""
        return dataclasses.replace(self, **{field: value for field, value in values.items() if value is not None})

    def settings(self) -> dict[str, bool | int | float | str]:
        """The fields that decide what is trained, for a run's record."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Recipe(Settings):
    """How a network is trained. Every field but the first three and the last can be set by a flag of its name.

    Attributes:
        name: what `--recipe` calls it.
        summary: one line for people.
        source: where it was stated.
        epochs: passes over the training set.
        batch_size: global, over all devices and processes.
        learning_rate: its peak, for this batch size.
        momentum: of SGD.
        nesterov: whether the momentum is Nesterov's.
        weight_decay: as torch's SGD has it, see `optimizer.TorchSGD`.
        decay_all: whether batch normalizations and biases decay too, as they do in torch.
        schedule: "step": divided by `drop_factor` every `drop_every` epochs; "cosine": to zero along a half cosine.
        drop_every: epochs between two drops.
        drop_factor: what the rate is divided by.
        warmup_epochs: over which the rate rises linearly from zero; may be a fraction.
        image_size: side of the square crop that the network sees.
        crop_scale: least share of the photo's area that a crop takes; the largest is 1.
        antialias: whether crops are shrunk with PIL's filter. It costs two fifths of the input's speed.
            Evaluation always does it, whatever this says.
        flip: chance of a mirrored photo.
        label_smoothing: share of the label that is spread over all classes.
        mixup: parameter of the Beta distribution; 0 is off.
        cutmix: likewise; with both on, every batch has either at even chance.
        randaugment: how many of its operations each photo gets; 0 is off.
        randaugment_magnitude: their strength, 0 to 10.
        dropout: before the classifier.
        ema_decay: of the averaged weights that are evaluated and saved; 0 is off.
        targets: top-1 that it must reach on ImageNet's 50,000 validation photos.
    """

    name: str
    summary: str
    source: str
    epochs: int
    batch_size: int = 256
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 4e-5
    decay_all: bool = True
    schedule: str = "step"
    drop_every: int = 30
    drop_factor: float = 10.0
    warmup_epochs: float = 0.0
    image_size: int = imagenet.SIZE
    crop_scale: float = 0.64
    antialias: bool = False
    flip: float = 0.5
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    randaugment: int = 0
    randaugment_magnitude: float = 9.0
    dropout: float = 0.0
    ema_decay: float = 0.0
    targets: Targets = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        if self.schedule not in SCHEDULES:
            raise ValueError(f"--schedule={self.schedule}: must be one of {', '.join(SCHEDULES)}.")

    @property
    def mixes(self) -> bool:
        """Whether batches are mixed, so that a photo has two labels."""
        return bool(self.mixup or self.cutmix)

    def settings(self) -> dict[str, bool | int | float | str]:
        return {name: value for name, value in super().settings().items() if name not in _WORDS}


SCHEDULES = ("step", "cosine")
_WORDS = ("summary", "source", "targets")  # what a recipe says of itself
_INFINITY = 1e9
Recipe.RANGES = (
    ("epochs", 1, _INFINITY),
    ("batch_size", 1, _INFINITY),
    ("learning_rate", 0, _INFINITY),
    ("momentum", 0, 1),
    ("weight_decay", 0, 1),
    ("drop_every", 1, _INFINITY),
    ("drop_factor", 1, _INFINITY),
    ("warmup_epochs", 0, _INFINITY),
    ("image_size", spec.MIN_SIZE, 4096),
    ("crop_scale", 0, 1),
    ("flip", 0, 1),
    ("label_smoothing", 0, 0.99),
    ("mixup", 0, _INFINITY),
    ("cutmix", 0, _INFINITY),
    ("randaugment", 0, 16),
    ("randaugment_magnitude", 0, 10),
    ("dropout", 0, 0.99),
    ("ema_decay", 0, 0.999999),
)

_PAPER_TARGETS = {(row.arch, row.alpha): row.top1 for row in zoo.PAPER_TABLE2 if row.top1 is not None}
_AUTHORS_TARGETS = {
    (known.arch, known.alpha): known.top1
    for known in weights.CHECKPOINTS
    if known.collection == "imagenet_authors" and known.top1 is not None
}

PAPER = Recipe(
    "paper",
    "what the paper says: 90 epochs, rate divided by 10 every 30, moderate crops",
    zoo.PAPER,
    epochs=90,
    targets=_PAPER_TARGETS,
)
# Crops this much smaller are torchvision's usual .08 tempered for nets that underfit; see the authors' README.
AUTHORS = Recipe(
    "authors",
    "the authors' README: 120 epochs, Nesterov, smaller crops",
    "qinzheng93/FD-MobileNet",
    epochs=120,
    nesterov=True,
    crop_scale=0.36,
    targets=_AUTHORS_TARGETS,
)
# Nets of 12 MFLOPs underfit: long training and averaged weights help them, strong augmentation does not, so MixUp,
# CutMix and RandAugment stay off unless asked for. It has to beat the paper to be worth its hours.
MODERN = Recipe(
    "modern",
    "cosine with warm-up, label smoothing, averaged weights, 240 epochs",
    "this project; not yet run on the whole of ImageNet",
    epochs=240,
    nesterov=True,
    decay_all=False,
    schedule="cosine",
    warmup_epochs=5,
    crop_scale=0.36,
    label_smoothing=0.1,
    ema_decay=0.9999,
    targets=_PAPER_TARGETS,
)
# Own photos are few, so the processor has time for the filter that evaluation uses.
FINETUNE = Recipe(
    "finetune",
    "a trained network on photos of one's own: 15 epochs, low rate",
    "this project",
    epochs=15,
    batch_size=64,
    learning_rate=0.01,
    nesterov=True,
    schedule="cosine",
    warmup_epochs=1,
    antialias=True,
    label_smoothing=0.1,
)
RECIPES = {recipe.name: recipe for recipe in (PAPER, AUTHORS, MODERN, FINETUNE)}

# The fields that flags may set.
OVERRIDES = tuple(
    field
    for field in dataclasses.fields(Recipe)
    if field.name not in ("name", *_WORDS)
)  # fmt: skip

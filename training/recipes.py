"""Training recipes, with the accuracy that each must reach."""

import dataclasses
from collections.abc import Mapping

from fd_keras import imagenet, spec, weights, zoo
from fd_keras.training.settings import Settings, setting

Targets = Mapping[tuple[str, float], float]  # (network, alpha) -> ImageNet validation top-1 in percent

# Training crops, as in torchvision.
RATIO = (3 / 4, 4 / 3)  # width to height
TRIES = 10  # random boxes, before the central crop
TOLERANCE = 0.5  # points of top-1 below the target at which a network still counts as reproduced


WIDER_NETWORKS = 64  # number of wider networks with `--netaug`, see `network_augmentation`
_NETAUG_PART = 0.8  # share of the epochs with `--netaug`; in the others, the network is trained alone

STRATEGIES = ("none", "mirrored", "data_parallel")  # how to use several devices, see `devices.make`


@dataclasses.dataclass(frozen=True)
class TrainingRecipe(Settings):
    """How a network is trained. Fields made by `setting` can be set by flags of the same names.

    Attributes:
        name: Name for `--recipe`.
        summary: Description in one line.
        source: Publication of the recipe.
        targets: Top-1 in percent that it must reach on ImageNet's 50,000 validation photos, by (network, alpha).
    """

    UNRECORDED = ("summary", "source", "targets")

    name: str
    summary: str
    source: str
    epochs: int = setting(90, "Number of passes over the training set.", 1)
    batch_size: int = setting(256, "Number of photos in a batch, over all devices and processes.", 1)
    learning_rate: float = setting(0.1, "Peak learning rate, for this batch size.", 0)
    momentum: float = setting(0.9, "Momentum of SGD.", 0, 1)
    nesterov: bool = setting(False, "Use Nesterov momentum.")
    weight_decay: float = setting(4e-5, "Weight decay, added to the gradient as torch's SGD does.", 0, 1)
    decay_all: bool = setting(True, "Decay batch normalizations and biases too, as torch does.")
    clip_norm: float = setting(
        0.0, "Maximum norm of a step's gradient, over all weights; larger ones are scaled down to it. 0 is off.", 0
    )
    schedule: str = setting(
        "step",
        "step: divide the rate by --drop_factor every --drop_every epochs; cosine: decay to zero along half a cosine.",
        choices=("step", "cosine"),
    )
    drop_every: int = setting(30, "Number of epochs between two drops of the learning rate.", 1)
    drop_factor: float = setting(10.0, "Divisor of the learning rate at each drop.", 1)
    warmup_epochs: float = setting(0.0, "Number of epochs, also fractional, of linear warm-up from zero.", 0)
    image_size: int = setting(imagenet.SIZE, "Side of the network's input in pixels.", spec.MIN_SIZE, 4096)
    progressive_size: float = setting(
        1.0,
        "Side of the crops in the first quarter of the epochs relative to --image_size; it grows to --image_size in "
        "the last quarter. 1 is off.",
        0.25,
        1,
    )
    crop_scale: float = setting(0.64, "Minimum share of the photo's area in a training crop.", 0, 1)
    antialias: bool = setting(
        False,
        "Shrink training crops with PIL's filter, as evaluation always does; lowers input speed by two fifths.",
    )
    flip: float = setting(0.5, "Probability of a horizontal flip.", 0, 1)
    label_smoothing: float = setting(0.0, "Share of the label that is spread over all classes.", 0, 0.99)
    mixup: float = setting(0.0, "MixUp: parameter of the Beta distribution; 0 is off.", 0)
    cutmix: float = setting(
        0.0, "CutMix: parameter of the Beta distribution; 0 is off. With MixUp too, each batch gets one at random.", 0
    )
    randaugment: int = setting(0, "RandAugment: number of operations per photo; 0 is off.", 0, 16)
    randaugment_magnitude: float = setting(9.0, "RandAugment: strength, from 0 to 10.", 0, 10)
    dropout: float = setting(0.0, "Dropout rate before the classifier.", 0, 0.99)
    ema_decay: float = setting(
        0.0, "Decay of the averaged weights that are evaluated and saved; 0 is off.", 0, 0.999999
    )
    netaug: float = setting(
        1.0,
        "Network augmentation: each step also trains a wider network that contains the network. This is the maximum "
        "width, relative to the network; 1 is off.",
        1,
        8,
    )
    reparam: bool = setting(
        False,
        "Reparametrization: train each convolution as parallel branches, which are folded into one when saving.",
    )
    bn_batches: int = setting(
        0,
        "Number of training batches, at most an epoch, to recompute the batch-norm statistics on after the last epoch; "
        "0 keeps the running statistics.",
        0,
    )
    class_balance: float = setting(
        0.0,
        "Class balancing: weight photos by 1 / (photos of the class) to this power. 0 is off; 1 gives all classes the "
        "same total weight.",
        0,
        1,
    )
    teacher_share: float = setting(0.7, "Weight of the distillation loss, with --teacher.", 0, 1)
    teacher_temperature: float = setting(4.0, "Temperature of the distillation loss, with --teacher.", 1)
    patience: int = setting(
        0, "Stop after this number of epochs without a lower validation loss; 0 disables early stopping.", 0
    )
    targets: Targets = dataclasses.field(default_factory=dict)

    @property
    def mixes(self) -> bool:
        """Whether photos are mixed (MixUp or CutMix) and have two labels."""
        return bool(self.mixup or self.cutmix)

    def size_at(self, epoch: int) -> int:
        """Returns the side of the training crops in pixels in an epoch, counted from 0; it grows in four steps."""
        step = min(3, 4 * epoch // self.epochs)
        share = self.progressive_size + (1 - self.progressive_size) * step / 3
        return max(spec.MIN_SIZE, round(share * self.image_size))

    def widens_at(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, also trains wider networks; the last fifth of the epochs does not."""
        return self.netaug > 1 and epoch < _NETAUG_PART * self.epochs


_PAPER_TARGETS = {(row.arch, row.alpha): row.top1 for row in zoo.PAPER_TABLE2 if row.top1 is not None}
_AUTHORS_TARGETS = {
    (known.arch, known.alpha): known.top1
    for known in weights.CHECKPOINTS
    if known.collection == "imagenet_authors" and known.top1 is not None
}

PAPER = TrainingRecipe(
    "paper",
    "the paper's settings: 90 epochs, rate divided by 10 every 30 epochs, moderate crops",
    zoo.PAPER,
    epochs=90,
    targets=_PAPER_TARGETS,
)
# Crops are smaller than the paper's, but larger than torchvision's default of 0.08, since the networks underfit; see
# the authors' README.
AUTHORS = TrainingRecipe(
    "authors",
    "the authors' README: 120 epochs, Nesterov, smaller crops",
    "qinzheng93/FD-MobileNet",
    epochs=120,
    nesterov=True,
    crop_scale=0.36,
    targets=_AUTHORS_TARGETS,
)
# Networks of 12 MFLOPs underfit: longer training and more capacity in training help, but strong augmentation does not,
# so MixUp, CutMix and RandAugment are off. The recipe is only worth its time if it beats the paper.
TINY = TrainingRecipe(
    "tiny",
    "for networks that underfit: network augmentation, reparametrization, averaged weights, 240 epochs, cosine",
    "this project; not yet run on all of ImageNet",
    epochs=240,
    nesterov=True,
    decay_all=False,
    schedule="cosine",
    warmup_epochs=5,
    crop_scale=0.36,
    label_smoothing=0.1,
    ema_decay=0.9999,
    netaug=3.0,
    reparam=True,
    bn_batches=100,
    targets=_PAPER_TARGETS,
)
# Users' data sets are small, so there is time for the filter that evaluation uses.
FINETUNE = TrainingRecipe(
    "finetune",
    "fine-tuning of a trained network on the user's photos: 15 epochs, low rate",
    "this project",
    epochs=15,
    batch_size=64,
    learning_rate=0.01,
    nesterov=True,
    schedule="cosine",
    warmup_epochs=1,
    # Norms are 1 to 10; a channel that is almost always zero can cause one of 800, which destroys the network.
    clip_norm=10.0,
    antialias=True,
    label_smoothing=0.1,
)
RECIPES = {recipe.name: recipe for recipe in (PAPER, AUTHORS, TINY, FINETUNE)}

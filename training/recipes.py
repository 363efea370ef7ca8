"""Training recipes as frozen data; each carries the accuracy that it must reach."""

import dataclasses
from collections.abc import Mapping

from fd_keras import imagenet, spec, weights, zoo
from fd_keras.training.settings import Settings, setting

Targets = Mapping[tuple[str, float], float]  # (network, alpha) -> ImageNet validation top-1 in percent

RATIO = (3 / 4, 4 / 3)  # width to height of a training crop, torchvision's default
TOLERANCE = 0.5  # percent of top-1 below its target at which a trained network still counts as reproduced


WIDER_NETWORKS = 64  # of `--netaug`, see `network_augmentation`
_NETAUG_PART = 0.8  # of the epochs with `--netaug`; in the last ones the network is trained alone

STRATEGIES = ("none", "mirrored", "data_parallel")  # how to use several devices, see `devices.make`


@dataclasses.dataclass(frozen=True)
class TrainingRecipe(Settings):
    """How a network is trained. The fields made by `setting` can be set by flags of their names.

    Attributes:
        name: What `--recipe` calls it.
        summary: One line for people.
        source: Where it was published.
        targets: ImageNet top-1 that it must reach, on all 50,000 validation photos.
    """

    UNRECORDED = ("summary", "source", "targets")

    name: str
    summary: str
    source: str
    epochs: int = setting(90, "Passes over the training set.", 1)
    batch_size: int = setting(256, "Photos in a batch, over all devices and processes.", 1)
    learning_rate: float = setting(0.1, "Peak learning rate, for this batch size.", 0)
    momentum: float = setting(0.9, "Momentum of SGD.", 0, 1)
    nesterov: bool = setting(False, "Nesterov's momentum.")
    weight_decay: float = setting(4e-5, "Weight decay, added to the gradient as torch's SGD does.", 0, 1)
    decay_all: bool = setting(True, "Decay batch normalizations and biases too, as torch does.")
    schedule: str = setting(
        "step",
        "step: the rate is divided by --drop_factor every --drop_every epochs; cosine: half a cosine, to zero.",
        choices=("step", "cosine"),
    )
    drop_every: int = setting(30, "Epochs between two drops of the learning rate.", 1)
    drop_factor: float = setting(10.0, "What the learning rate is divided by at a drop.", 1)
    warmup_epochs: float = setting(0.0, "Epochs, or a fraction, over which the rate rises linearly from zero.", 0)
    image_size: int = setting(imagenet.SIZE, "Side of the square crop that the network sees.", spec.MIN_SIZE, 4096)
    progressive_size: float = setting(
        1.0,
        "Side of the crops in the first quarter of the epochs, as a share of --image_size, which the last quarter has; "
        "1: always.",
        0.25,
        1,
    )
    crop_scale: float = setting(0.64, "Least share of the photo's area in a training crop; the most is 1.", 0, 1)
    antialias: bool = setting(
        False,
        "Shrink training crops with PIL's filter, for two fifths of the input's speed. Evaluation always does.",
    )
    flip: float = setting(0.5, "Probability that a photo is mirrored.", 0, 1)
    label_smoothing: float = setting(0.0, "Share of the label that is spread over all classes.", 0, 0.99)
    mixup: float = setting(0.0, "MixUp: parameter of the Beta distribution; 0 is off.", 0)
    cutmix: float = setting(0.0, "CutMix: likewise; with both on, each batch gets either at even odds.", 0)
    randaugment: int = setting(0, "RandAugment: operations a photo; 0 is off.", 0, 16)
    randaugment_magnitude: float = setting(9.0, "RandAugment: strength, 0 to 10.", 0, 10)
    dropout: float = setting(0.0, "Dropout rate before the classifier.", 0, 0.99)
    ema_decay: float = setting(
        0.0, "Decay of the averaged weights that are evaluated and saved; 0 is off.", 0, 0.999999
    )
    netaug: float = setting(
        1.0,
        "Network augmentation: width, relative to the network, of the widest network that each step trains too, of "
        "which the network is a part; 1 is off.",
        1,
        8,
    )
    reparam: bool = setting(
        False,
        "Reparametrization: train every convolution as parallel branches, which are folded into one when it is saved.",
    )
    bn_batches: int = setting(
        0,
        "Batches of training photos, an epoch at most, over which the batch-norm statistics are estimated anew after "
        "the last epoch; 0 keeps the running ones.",
        0,
    )
    class_balance: float = setting(
        0.0,
        "Power of a class's rarity by which its photos weigh more: 0 not at all, 1 all classes weigh the same.",
        0,
        1,
    )
    teacher_share: float = setting(0.7, "Share of the teacher's answers in the loss, with --teacher.", 0, 1)
    teacher_temperature: float = setting(4.0, "Temperature that softens both answers, with --teacher.", 1)
    patience: int = setting(
        0, "Epochs without a better loss on the validation set before the end; 0: never end early.", 0
    )
    targets: Targets = dataclasses.field(default_factory=dict)

    @property
    def mixes(self) -> bool:
        """Whether batches are mixed, so that a photo has two labels."""
        return bool(self.mixup or self.cutmix)

    def size_at(self, epoch: int) -> int:
        """Side of the training crops in an epoch, counted from 0: it grows in four steps."""
        step = min(3, 4 * epoch // self.epochs)
        share = self.progressive_size + (1 - self.progressive_size) * step / 3
        return max(spec.MIN_SIZE, round(share * self.image_size))

    def widens_at(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, trains wider networks too; the last fifth of the epochs does not."""
        return self.netaug > 1 and epoch < _NETAUG_PART * self.epochs


_PAPER_TARGETS = {
    (row.arch, row.alpha): row.top1 for row in zoo.PAPER_TABLE2 if row.top1 is not None and row.source == zoo.PAPER
}
_AUTHORS_TARGETS = {
    (known.arch, known.alpha): known.top1
    for known in weights.CHECKPOINTS
    if known.collection == "imagenet_authors" and known.top1 is not None
}

PAPER = TrainingRecipe(
    "paper",
    "what the paper says: 90 epochs, rate divided by 10 every 30, moderate crops",
    zoo.PAPER,
    epochs=90,
    targets=_PAPER_TARGETS,
)
# Crops this much smaller are torchvision's usual .08 tempered for nets that underfit; see the authors' README.
AUTHORS = TrainingRecipe(
    "authors",
    "the authors' README: 120 epochs, Nesterov, smaller crops",
    "qinzheng93/FD-MobileNet",
    epochs=120,
    nesterov=True,
    crop_scale=0.36,
    targets=_AUTHORS_TARGETS,
)
# Nets of 12 MFLOPs underfit: long training and more capacity while they are trained help them, strong augmentation does
# not, so MixUp, CutMix and RandAugment stay off unless asked for. It has to beat the paper to be worth its hours.
TINY = TrainingRecipe(
    "tiny",
    "for networks that underfit: wider networks and branches in training, averaged weights, 240 epochs, cosine",
    "this project; not yet run on the whole of ImageNet",
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
# Own photos are few, so the processor has time for the filter that evaluation uses.
FINETUNE = TrainingRecipe(
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
RECIPES = {recipe.name: recipe for recipe in (PAPER, AUTHORS, TINY, FINETUNE)}

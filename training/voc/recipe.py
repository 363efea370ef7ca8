"""How a detector is trained and tested, as frozen data; the defaults are the paper's."""

import dataclasses
import inspect
import re

from training.recipes import Settings
from training.voc import anchors

FROZEN = (0, 2, 4, 8, 16)


@dataclasses.dataclass(frozen=True)
class Recipe(Settings):
    """How a detector is trained and tested. Every field can be set by a flag of its name.

    Section 3.2 of the paper gives the sides of the images, the rates, the epochs, the decay and the proposals at test;
    the rest is py-faster-rcnn's (rbgirshick/py-faster-rcnn, lib/fast_rcnn/config.py). The paper counts one image a
    step. An epoch is one pass over the images, each of which is mirrored with a chance of `flip`; py-faster-rcnn counts
    the mirrored ones as images of their own, so what it calls an epoch is two of these.

    Attributes:
        epochs: passes over the images.
        learning_rate: the rate of the first epochs.
        drop_every: epochs between two drops of the rate.
        drop_factor: what the rate is divided by.
        momentum: of stochastic gradient descent.
        weight_decay: as torch's SGD has it, on all that is trained.
        short_side: pixels of the shorter side of what the network sees.
        long_side: pixels that the other side has at most.
        flip: chance that an image is mirrored.
        freeze_stride: the layers that make the feature map of this stride, and all before, stay as they are; 0: none.
            py-faster-rcnn keeps VGG's and ResNet's up to stride 4. Batch normalizations always stay.
        anchor_size: side of the smallest square anchor; two more octaves follow. It should go with the short side.
        rpn_channels: channels of the proposal network's own convolution.
        roi_size: side of the crops. The strided layers that see them halve it.
        min_size: proposals with a side below are dropped, in pixels of the original image.
        rpn_iou: overlap above which the worse of two proposals goes.
        train_before_nms: best proposals that are looked at, in training.
        train_proposals: how many of them are kept, in training.
        test_before_nms: best proposals that are looked at, in tests.
        test_proposals: how many of them are kept, in tests.
    """

    epochs: int = 15
    learning_rate: float = 1e-3
    drop_every: int = 5
    drop_factor: float = 10.0
    momentum: float = 0.9
    weight_decay: float = 4e-5
    short_side: int = 600
    long_side: int = 1000
    flip: float = 0.5
    freeze_stride: int = 4
    anchor_size: int = anchors.SIZE
    rpn_channels: int = 512
    roi_size: int = 14
    min_size: int = 16
    rpn_iou: float = 0.7
    train_before_nms: int = 12000
    train_proposals: int = 2000
    test_before_nms: int = 6000
    test_proposals: int = 300

    def __post_init__(self):
        super().__post_init__()
        if self.long_side < self.short_side:
            raise ValueError(f"--long_side={self.long_side}: must not be below --short_side={self.short_side}.")
        if self.freeze_stride not in FROZEN:
            raise ValueError(f"--freeze_stride={self.freeze_stride}: must be one of {', '.join(map(str, FROZEN))}.")

    @classmethod
    def of(cls, settings: dict) -> "Recipe":
        """From a run's record, which may hold more; raises KeyError if a field is missing."""
        return cls(**{field.name: settings[field.name] for field in dataclasses.fields(cls)})

    @classmethod
    def explained(cls) -> dict[str, str]:
        """What each field is, in the words above."""
        attributes = inspect.getdoc(cls).partition("Attributes:")[2]
        found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE)
        return {name: " ".join(words.split()) for name, words in found}


_INFINITY = 1e9
Recipe.RANGES = (
    ("epochs", 1, _INFINITY),
    ("learning_rate", 0, _INFINITY),
    ("drop_every", 1, _INFINITY),
    ("drop_factor", 1, _INFINITY),
    ("momentum", 0, 1),
    ("weight_decay", 0, 1),
    ("short_side", 64, 4096),
    ("long_side", 64, 8192),
    ("flip", 0, 1),
    ("anchor_size", 8, 2048),
    ("rpn_channels", 1, 4096),
    ("roi_size", 2, 64),
    ("min_size", 1, 4096),
    ("rpn_iou", 0, 1),
    ("train_before_nms", 1, _INFINITY),
    ("train_proposals", 1, _INFINITY),
    ("test_before_nms", 1, _INFINITY),
    ("test_proposals", 1, _INFINITY),
)
PAPER = Recipe()

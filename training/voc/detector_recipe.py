"""Recipe of Faster R-CNN, whose defaults are the paper's, and the settings that all detectors share."""

import dataclasses
from typing import ClassVar

from fd_keras.training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class SharedRecipe(Settings):
    """Settings that the recipes of all detectors have. Each field can be set by a flag of the same name."""

    epochs: int = setting(15, "Number of passes over the images.", 1)
    learning_rate: float = setting(1e-3, "Learning rate of the first epochs.", 0)
    drop_every: int = setting(5, "Number of epochs between two drops of the learning rate.", 1)
    drop_factor: float = setting(10.0, "Divisor of the learning rate at each drop.", 1)
    momentum: float = setting(0.9, "Momentum of SGD.", 0, 1)
    weight_decay: float = setting(4e-5, "Weight decay, added to the gradient as torch's SGD does.", 0, 1)
    flip: float = setting(0.5, "Probability of a horizontal flip.", 0, 1)
    freeze_stride: int = setting(
        4,
        "Freeze all layers up to the feature map of this stride, as py-faster-rcnn does up to 4 for VGG and ResNet; 0 "
        "freezes none. Faster R-CNN also freezes all batch normalizations.",
        choices=(0, 2, 4, 8, 16),
    )


@dataclasses.dataclass(frozen=True)
class DetectorRecipe(SharedRecipe):
    """How a Faster R-CNN is trained and tested. Each field can be set by a flag of the same name.

    Image sizes, learning rates, epochs, weight decay and proposals at test time are from section 3.2 of the paper; the
    others are py-faster-rcnn's (rbgirshick/py-faster-rcnn, lib/fast_rcnn/config.py). As in the paper, a step has one
    image. An epoch is one pass over the images, each of which is mirrored with probability `flip`; py-faster-rcnn
    counts mirrored images separately, so one of its epochs is two of these.
    """

    zoom: ClassVar[float] = 1.0  # not available: images are not squares

    short_side: int = setting(600, "Shorter side of the network's input in pixels.", 64, 4096)
    long_side: int = setting(1000, "Maximum longer side of the network's input in pixels.", 64, 8192)
    anchor_size: int = setting(
        128,
        "Side of the smallest square anchor in pixels; the others are 2 and 4 times as large. Scale it with "
        "--short_side: py-faster-rcnn uses 128 at 600 pixels.",
        8,
        2048,
    )
    rpn_channels: int = setting(512, "Channels of the proposal network's convolution.", 1, 4096)
    roi_size: int = setting(14, "Side of the RoI crops in cells. The strided layers after them halve it.", 2, 64)
    min_size: int = setting(16, "Minimum side of a proposal in pixels of the original image.", 1, 4096)
    rpn_iou: float = setting(0.7, "Overlap above which the proposal with the lower score is removed.", 0, 1)
    train_before_nms: int = setting(12000, "Number of best proposals before suppression in training.", 1)
    train_proposals: int = setting(2000, "Number of proposals after suppression in training.", 1)
    test_before_nms: int = setting(6000, "Number of best proposals before suppression in tests.", 1)
    test_proposals: int = setting(300, "Number of proposals after suppression in tests.", 1)

    def __post_init__(self):
        super().__post_init__()
        if self.long_side < self.short_side:
            raise ValueError(f"--long_side={self.long_side}: must be at least --short_side={self.short_side}.")


PAPER = DetectorRecipe()

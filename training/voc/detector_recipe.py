"""How a detector is trained and tested, as frozen data; the defaults are the paper's."""

import dataclasses

from fd_keras.training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class DetectorRecipe(Settings):
    """How a detector is trained and tested. Every field can be set by a flag of its name.

    Section 3.2 of the paper gives the sides of the images, the rates, the epochs, the decay and the proposals at test;
    the rest is py-faster-rcnn's (rbgirshick/py-faster-rcnn, lib/fast_rcnn/config.py). The paper counts one image a
    step. An epoch is one pass over the images, each of which is mirrored with a chance of `flip`; py-faster-rcnn counts
    the mirrored ones as images of their own, so what it calls an epoch is two of these.
    """

    epochs: int = setting(15, "Passes over the images.", 1)
    learning_rate: float = setting(1e-3, "Learning rate of the first epochs.", 0)
    drop_every: int = setting(5, "Epochs between two drops of the learning rate.", 1)
    drop_factor: float = setting(10.0, "What the learning rate is divided by at a drop.", 1)
    momentum: float = setting(0.9, "Momentum of SGD.", 0, 1)
    weight_decay: float = setting(4e-5, "Weight decay, added to the gradient as torch's SGD does.", 0, 1)
    short_side: int = setting(600, "Shorter side of what the network sees, in pixels.", 64, 4096)
    long_side: int = setting(1000, "Most pixels of the other side.", 64, 8192)
    flip: float = setting(0.5, "Probability that an image is mirrored.", 0, 1)
    freeze_stride: int = setting(
        4,
        "The layers that make the feature map of this stride, and all before, stay as they are (0: none). "
        "py-faster-rcnn keeps VGG's and ResNet's up to stride 4. Batch normalizations always stay.",
        choices=(0, 2, 4, 8, 16),
    )
    anchor_size: int = setting(
        128,
        "Side of the smallest square anchor; two more octaves follow. It should go with the short side: "
        "128 is py-faster-rcnn's at 600 pixels.",
        8,
        2048,
    )
    rpn_channels: int = setting(512, "Channels of the proposal network's own convolution.", 1, 4096)
    roi_size: int = setting(14, "Side of the RoI crops. The strided layers that see them halve it.", 2, 64)
    min_size: int = setting(16, "Least side of a proposal, in pixels of the original image.", 1, 4096)
    rpn_iou: float = setting(0.7, "Overlap above which the worse of two proposals goes.", 0, 1)
    train_before_nms: int = setting(12000, "Best proposals considered in training.", 1)
    train_proposals: int = setting(2000, "Proposals kept of these.", 1)
    test_before_nms: int = setting(6000, "Best proposals considered in tests.", 1)
    test_proposals: int = setting(300, "Proposals kept of these.", 1)

    def __post_init__(self):
        super().__post_init__()
        if self.long_side < self.short_side:
            raise ValueError(f"--long_side={self.long_side}: must not be below --short_side={self.short_side}.")


PAPER = DetectorRecipe()

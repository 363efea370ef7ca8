"""Recipe of the RetinaNet."""

import dataclasses

from fd_keras.training.settings import setting
from fd_keras.training.voc.detector_recipe import SharedRecipe

GRAY = 127.5  # padding of images to a square, RGB 0..255


@dataclasses.dataclass(frozen=True)
class RetinaNetRecipe(SharedRecipe):
    """How a RetinaNet (arXiv 1708.02002) is trained and tested. Each field can be set by a flag of the same name.

    Weight decay and the numbers of boxes before and after suppression are from the RetinaNet paper, the limit of the
    gradient norm from keras-cv's guide. Learning rates and zoom were chosen by short runs (docs/results/voc.md).
    """

    clip_norm: float = setting(10.0, "Maximum norm of all gradients together.", 0)
    batch_size: int = setting(8, "Number of images in a batch.", 1, 1024)
    side: int = setting(320, "Side of the square input in pixels, a multiple of 32.", 64, 4096)
    pyramid_channels: int = setting(
        96,
        "Channels of the feature pyramid and the heads, with depthwise separable convolutions; 0: those of keras-cv, "
        "with 256 channels and full convolutions.",
        0,
        1024,
    )
    backbone_rate: float = setting(
        0.05, "Learning rate of the backbone, which is trained already, relative to that of the other layers.", 0, 1
    )
    train_batch_norm: bool = setting(
        True,
        "Train the backbone's batch normalizations, except in frozen layers; they need batches of at least 8 images.",
    )
    zoom: float = setting(
        1.5, "Maximum factor by which training images are randomly enlarged or reduced; 1: none.", 1, 8
    )
    test_candidates: int = setting(1000, "Number of best boxes of all classes before suppression in tests.", 1)

    def __post_init__(self):
        super().__post_init__()
        if self.side % 32:
            raise ValueError(f"--side={self.side}: must be a multiple of 32.")

    @property
    def short_side(self) -> int:
        """Shorter side of the network's input in pixels; images are fitted into a square."""
        return self.side

    @property
    def long_side(self) -> int:
        """Longer side of the network's input in pixels; images are fitted into a square."""
        return self.side


DEFAULT = RetinaNetRecipe(epochs=18, learning_rate=0.15, drop_every=13, weight_decay=1e-4)

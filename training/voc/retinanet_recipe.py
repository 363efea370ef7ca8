"""Recipe of the RetinaNet."""

import dataclasses

from fd_keras.training.settings import setting
from fd_keras.training.voc.detector_recipe import SharedRecipe


@dataclasses.dataclass(frozen=True)
class RetinaNetRecipe(SharedRecipe):
    """How a RetinaNet (arXiv 1708.02002) is trained and tested. Each field can be set by a flag of the same name.

    Learning rate, weight decay and the numbers of boxes before and after suppression are from the RetinaNet paper, with
    the rate for batches of 8 images instead of 16; the limit of the gradient norm is from keras-cv's guide.
    """

    clip_norm: float = setting(10.0, "Maximum norm of all gradients together.", 0)
    batch_size: int = setting(8, "Number of images in a batch.", 1, 1024)
    side: int = setting(384, "Side of the square input in pixels, a multiple of 32.", 64, 4096)
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


DEFAULT = RetinaNetRecipe(epochs=24, learning_rate=5e-3, drop_every=8, weight_decay=1e-4)

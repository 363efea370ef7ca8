"""How a RetinaNet is trained and tested, as frozen data."""

import dataclasses

from fd_keras.training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class RetinaNetRecipe(Settings):
    """How a RetinaNet (arXiv 1708.02002) is trained and tested. Every field can be set by a flag of its name.

    The rate, the decay and what is kept before and after suppression are the RetinaNet paper's, the rate for 8 images a
    step instead of 16; the norm of the gradient is limited as in keras-cv's guide.
    """

    epochs: int = setting(24, "Passes over the images.", 1)
    learning_rate: float = setting(5e-3, "Learning rate of the first epochs.", 0)
    drop_every: int = setting(8, "Epochs between two drops of the learning rate.", 1)
    drop_factor: float = setting(10.0, "What the learning rate is divided by at a drop.", 1)
    momentum: float = setting(0.9, "Momentum of SGD.", 0, 1)
    weight_decay: float = setting(1e-4, "Weight decay, added to the gradient as torch's SGD does.", 0, 1)
    clip_norm: float = setting(10.0, "Most that the norm of all gradients together may be.", 0)
    batch_size: int = setting(8, "Images a step.", 1, 1024)
    side: int = setting(384, "Side of the square into which an image is fitted; a multiple of 32.", 64, 4096)
    flip: float = setting(0.5, "Probability that an image is mirrored.", 0, 1)
    freeze_stride: int = setting(
        4, "The layers up to the feature map of this stride stay as they are (0: none).", choices=(0, 2, 4, 8, 16)
    )
    test_candidates: int = setting(1000, "Best boxes considered in tests, of all classes.", 1)

    def __post_init__(self):
        super().__post_init__()
        if self.side % 32:
            raise ValueError(f"--side={self.side}: must be a multiple of 32.")

    @property
    def short_side(self) -> int:
        """The shorter side of what the network sees: an image is fitted into a square."""
        return self.side

    @property
    def long_side(self) -> int:
        """The longer side, likewise."""
        return self.side


DEFAULT = RetinaNetRecipe()

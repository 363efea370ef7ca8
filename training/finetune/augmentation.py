"""Which changes photos bear: whether a mirrored or a cropped photo still looks like one of its class.

A mirrored heron is a heron, a mirrored 3 is no digit. Asked about changed photos, a linear head on the features of the
unchanged ones tells which case it is: with photos of objects (Imagenette, VOC 2007) it got at most 1 point less of the
mirrored and 3 points less of the cropped ones right, with handwritten digits 12 and 17.
"""

import dataclasses

import numpy as np

from fd_keras.training.finetune import linear_head

_MOST_LOST = 0.05  # share of the photos that may be lost to a change that they bear
_CERTAIN = 2.0  # standard errors by which more must be lost than gained


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What may be done to photos.

    Attributes:
        mirrored: Whether they may be mirrored.
        cropped: Whether they may be cropped to a part.
    """

    mirrored: bool = True
    cropped: bool = True

    def usable(self, views: int) -> list[int]:
        """Indices of the views of `features.pooled` that show nothing that the photos do not bear."""
        return [view for view in range(views) if (self.mirrored or view % 2 == 0) and (self.cropped or view < 2)]


def choose(features: np.ndarray, labels: np.ndarray, classes: int) -> Augmentation:
    """Finds what photos bear.

    Args:
        features: As `features.pooled` gives them, (photos, views, channels); with less than 3 views all is allowed.
        labels: Label of each photo, (photos,).
        classes: Number of classes.
    """
    if features.shape[1] < 3:
        return Augmentation()
    hits = linear_head.hits_when_left_out(features[:, :3], labels, classes)
    plain, mirrored, cropped = hits.T
    return Augmentation(_bears(plain, mirrored), _bears(plain, cropped))


def _bears(plain: np.ndarray, changed: np.ndarray) -> bool:
    """Whether about as many photos are named right after a change as before."""
    lost, gained = int((plain & ~changed).sum()), int((changed & ~plain).sum())
    return lost - gained <= max(_MOST_LOST * len(plain), _CERTAIN * (lost + gained) ** 0.5)

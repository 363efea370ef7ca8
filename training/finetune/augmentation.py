"""Decides whether photos may be mirrored and cropped in training.

A mirrored heron is a heron; a mirrored 3 is not a digit. So a linear head on the features of unchanged photos is asked
about changed ones: of objects it recognizes about as many, of handwritten digits far fewer. The figures are in
docs/results/finetune.md.
"""

import dataclasses

import numpy as np

from fd_keras.training.finetune import linear_head

_MOST_LOST = 0.08  # share of the photos that a harmless change may cost
_CERTAIN = 2.0  # standard errors, likewise


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Changes that leave photos in their class.

    Attributes:
        mirrored: Whether they may be mirrored.
        cropped: Whether they may be cropped to a part.
    """

    mirrored: bool = True
    cropped: bool = True

    def usable(self, views: int) -> list[int]:
        """Indices of the views of `features.pooled` that are made by these changes only."""
        return [view for view in range(views) if (self.mirrored or view % 2 == 0) and (self.cropped or view < 2)]


def choose(features: np.ndarray, labels: np.ndarray, classes: int) -> Augmentation:
    """Chooses the changes.

    Args:
        features: As `features.pooled` gives them, (photos, views, channels); with less than 3 views all is allowed.
        labels: Label of each photo, (photos,).
        classes: Number of classes.
    """
    if features.shape[1] < 3:
        return Augmentation()
    hits = linear_head.hits_when_left_out(features[:, :3], labels, classes)
    plain, mirrored, cropped = hits.T
    return Augmentation(_is_harmless(plain, mirrored), _is_harmless(plain, cropped))


def _is_harmless(plain: np.ndarray, changed: np.ndarray) -> bool:
    """Whether about as many photos are recognized after a change as before."""
    lost, gained = int((plain & ~changed).sum()), int((changed & ~plain).sum())
    return lost - gained <= max(_MOST_LOST * len(plain), _CERTAIN * (lost + gained) ** 0.5)

"""Decides whether to mirror and crop photos in training.

A mirrored heron is a heron, but a mirrored 3 is not a digit. So a linear head is fitted on features of unchanged photos
and tested on changed ones: it recognizes about as many objects, but far fewer handwritten digits. See
docs/results/finetune.md.
"""

import dataclasses

import numpy as np

from fd_keras.training.finetune import linear_head

_MOST_LOST = 0.08  # maximum share of photos that a harmless change makes unrecognizable
_CERTAIN = 2.0  # standard errors by which the loss must exceed 0


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Changes that do not affect the class of a photo.

    Attributes:
        mirrored: Whether to mirror photos.
        cropped: Whether to crop photos.
    """

    mirrored: bool = True
    cropped: bool = True

    def usable(self, views: int) -> list[int]:
        """Returns the indices of the views of `features.pooled` that only use these changes."""
        return [view for view in range(views) if (self.mirrored or view % 2 == 0) and (self.cropped or view < 2)]


def choose(features: np.ndarray, labels: np.ndarray, classes: int) -> Augmentation:
    """Chooses the changes to use in training.

    Args:
        features: Features from `features.pooled`, (photos, views, channels); with fewer than 3 views, all changes are
            used.
        labels: Label of each photo, (photos,).
        classes: Number of classes.
    """
    if features.shape[1] < 3:
        return Augmentation()
    hits = linear_head.hits_when_left_out(features[:, :3], labels, classes)
    plain, mirrored, cropped = hits.T
    return Augmentation(_is_harmless(plain, mirrored), _is_harmless(plain, cropped))


def _is_harmless(plain: np.ndarray, changed: np.ndarray) -> bool:
    """Whether about as many photos are recognized with a change as without."""
    lost, gained = int((plain & ~changed).sum()), int((changed & ~plain).sum())
    return lost - gained <= max(_MOST_LOST * len(plain), _CERTAIN * (lost + gained) ** 0.5)

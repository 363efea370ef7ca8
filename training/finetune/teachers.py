"""Teachers: wider networks, fitted to the same photos, that a smaller one learns from."""

import dataclasses
import os
from collections.abc import Sequence

from fd_keras import weights as weights_lib
from fd_keras.training import run_record
from fd_keras.training.finetune import candidates, linear_head
from fd_keras.training.finetune.candidates import FinetuneNetwork
from fd_keras.training.finetune.linear_head import LinearHead
from fd_keras.training.finetune.photo_folder import Labeled, labels_of


def wider(network: FinetuneNetwork) -> FinetuneNetwork | None:
    """The network of twice the width, if its weights are on this machine: they are not worth a download."""
    alpha = 2 * network.alpha
    path = weights_lib.at_hand(network.arch, alpha, beside=network.weights)
    return None if path is None else dataclasses.replace(network, alpha=alpha, weights=path)


def fit_head(network: FinetuneNetwork, photos: Sequence[Labeled], views: Sequence[int]) -> LinearHead:
    """A linear head on the features of photos.

    Args:
        network: The network.
        photos: The photos.
        views: Indices of the views to take, see `features.pooled`.
    """
    values = candidates.pooled_features(network, [path for path, _ in photos], max(views) + 1)[:, list(views)]
    return linear_head.fit(values, labels_of(photos), len(network.classes))


def save(network: FinetuneNetwork, photos: Sequence[Labeled], views: Sequence[int], path: str) -> str:
    """Saves a network with a linear head for the photos, unless it is there already; returns the path."""
    if not os.path.exists(path):
        run_record.save_model(candidates.with_head(network, fit_head(network, photos, views)), path)
    return path

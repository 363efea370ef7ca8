"""Teachers: networks that know more about the photos than the one to fine-tune, which learns from their answers too."""

import dataclasses
import os
from collections.abc import Sequence

from fd_keras import weights as weights_lib
from fd_keras.training import run_record
from fd_keras.training.finetune import candidates, linear_head
from fd_keras.training.finetune.candidates import FinetuneNetwork
from fd_keras.training.finetune.linear_head import LinearHead
from fd_keras.training.finetune.photo_folder import Labeled, labels_of

_ENLARGED_TO = 192  # pixels; ImageNet's weights were made at 224, and see little in images much smaller


def possible(network: FinetuneNetwork) -> list[FinetuneNetwork]:
    """The network itself, the one of twice the width, and the wider of these on enlarged images.

    The weights of the wider one are taken only if they are on this machine: they are not worth a download.
    """
    alpha = 2 * network.alpha
    path = weights_lib.at_hand(network.arch, alpha, beside=network.weights)
    found = [network] if path is None else [network, dataclasses.replace(network, alpha=alpha, weights=path)]
    if network.image_size < _ENLARGED_TO:
        found.append(dataclasses.replace(found[-1], enlarged_to=_ENLARGED_TO))
    return found


def best(network: FinetuneNetwork, photos: Sequence[Labeled]) -> FinetuneNetwork:
    """The possible teacher whose linear head recognizes most photos that it was not fitted on."""
    return max(possible(network), key=lambda one: _hits(one, photos))


def _hits(network: FinetuneNetwork, photos: Sequence[Labeled]) -> int:
    features = candidates.pooled_features(network, [path for path, _ in photos], 1)
    return int(linear_head.hits_when_left_out(features, labels_of(photos), len(network.classes)).sum())


def title(network: FinetuneNetwork) -> str:
    """What a teacher is, for people."""
    enlarged = f" on images enlarged to {network.enlarged_to} pixels" if network.enlarged_to else ""
    return f"{network.name} with a linear head{enlarged}"


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

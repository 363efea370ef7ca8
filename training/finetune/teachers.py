"""Teachers for knowledge distillation: more accurate networks with a linear head for the photos."""

import dataclasses
import os
from collections.abc import Sequence

from fd_keras import weights as weights_lib
from fd_keras.training import run_record
from fd_keras.training.finetune import candidates, linear_head
from fd_keras.training.finetune.candidates import FinetuneNetwork
from fd_keras.training.finetune.linear_head import LinearHead
from fd_keras.training.finetune.photo_folder import Labeled, labels_of

_ENLARGED_TO = 192  # pixels; weights trained at 224 are less accurate on much smaller images


def possible(network: FinetuneNetwork) -> list[FinetuneNetwork]:
    """The network itself, the one of twice the width, and the wider of these on enlarged images.

    The wider network is only used if its weights are on this machine; it is not worth a download.
    """
    alpha = 2 * network.alpha
    path = weights_lib.at_hand(network.arch, alpha, beside=network.weights)
    found = [network] if path is None else [network, dataclasses.replace(network, alpha=alpha, weights=path)]
    if network.image_size < _ENLARGED_TO:
        found.append(dataclasses.replace(found[-1], enlarged_to=_ENLARGED_TO))
    return found


def best(network: FinetuneNetwork, photos: Sequence[Labeled]) -> FinetuneNetwork:
    """The possible teacher whose linear head has the best accuracy in cross-validation."""
    return max(possible(network), key=lambda one: _hits(one, photos))


def _hits(network: FinetuneNetwork, photos: Sequence[Labeled]) -> int:
    features = candidates.pooled_features(network, [path for path, _ in photos], 1)
    return int(linear_head.hits_when_left_out(features, labels_of(photos), len(network.classes)).sum())


def title(network: FinetuneNetwork) -> str:
    """Description of a teacher for users."""
    enlarged = f" on images enlarged to {network.enlarged_to} pixels" if network.enlarged_to else ""
    return f"{network.name} with a linear head{enlarged}"


def fit_head(network: FinetuneNetwork, photos: Sequence[Labeled], views: Sequence[int]) -> LinearHead:
    """A linear head on the features of photos.

    Args:
        network: The network.
        photos: The photos.
        views: Indices of the views, see `features.pooled`.
    """
    values = candidates.pooled_features(network, [path for path, _ in photos], max(views) + 1)[:, list(views)]
    return linear_head.fit(values, labels_of(photos), len(network.classes))


def save(network: FinetuneNetwork, photos: Sequence[Labeled], views: Sequence[int], path: str) -> str:
    """Saves a network with a linear head for the photos, unless the file exists; returns the path."""
    if not os.path.exists(path):
        run_record.save_model(candidates.with_head(network, fit_head(network, photos, views)), path)
    return path

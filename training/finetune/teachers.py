"""Teachers for knowledge distillation: more accurate networks with a linear head for the photos."""

import dataclasses

import numpy as np

from fd_keras import weights as weights_lib
from fd_keras.training import run_record
from fd_keras.training.finetune import candidates, linear_head
from fd_keras.training.finetune.candidates import FinetuneNetwork, PhotoFeatures

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


def best(network: FinetuneNetwork, features: PhotoFeatures, labels: np.ndarray) -> FinetuneNetwork:
    """The possible teacher whose linear head has the best accuracy in cross-validation.

    Args:
        network: Network to teach.
        features: Features of photos.
        labels: Labels of the first of these photos; the others are not used.
    """
    classes = len(network.classes)

    def hits(one: FinetuneNetwork) -> int:
        values = features.of(one, 1)[: len(labels)]
        return int(linear_head.hits_when_left_out(values, labels, classes).sum())

    return max(possible(network), key=hits)


def title(network: FinetuneNetwork) -> str:
    """Description of a teacher for users."""
    enlarged = f" on images enlarged to {network.enlarged_to} pixels" if network.enlarged_to else ""
    return f"{network.name} with a linear head{enlarged}"


def save(network: FinetuneNetwork, values: np.ndarray, labels: np.ndarray, weights: np.ndarray, path: str) -> str:
    """Saves a network with a linear head.

    Args:
        network: The network.
        values: Features of photos, (photos, views, channels).
        labels: Labels of the photos, (photos,).
        weights: Weights of the photos in the loss of the head, (photos,).
        path: Path of the .keras file.

    Returns:
        The path.
    """
    head = linear_head.fit(values, labels, len(network.classes), weights=weights)
    run_record.save_model(candidates.with_head(network, head), path)
    return path

"""Recomputes batch-norm statistics at the end of training ("precise BN", arXiv 2105.07576).

Running statistics only cover the last few steps. Those of averaged weights were measured on the networks before.
"""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np


def estimate(net: keras.Model, batches: Iterable[np.ndarray]) -> None:
    """Sets the statistics of all batch normalizations to their mean over some batches.

    Args:
        net: Network that takes raw images.
        batches: Batches of images, float of shape (batch, height, width, channels).
    """
    norms: list[Any] = [layer for layer in net.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    seen = []
    for norm in norms:
        norm.momentum = 0.0  # the moving statistics become those of one batch
    for images in batches:
        net(images, training=True)
        seen.append([[norm.moving_mean.numpy(), norm.moving_variance.numpy()] for norm in norms])
    for norm, momentum, *statistics in zip(norms, momenta, *seen, strict=True):
        norm.momentum = momentum
        for variable, values in zip(
            (norm.moving_mean, norm.moving_variance), zip(*statistics, strict=True), strict=True
        ):
            variable.assign(np.mean(values, axis=0, dtype="float64"))

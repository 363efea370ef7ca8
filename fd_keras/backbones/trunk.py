"""What the backbones of both libraries share: the network without its classifier, its pyramid, and the presets."""

import dataclasses
import os
from typing import Any

import keras

from fd_keras.applications import build_by_name, feature_layers
from fd_keras.spec import Arch, model_name
from fd_keras.weights import CHECKPOINTS, Checkpoint
from fd_keras.zoo import get_arch

ARGUMENTS = """
    The pyramid has P1 to P5, where Pn is 2^n times smaller than the image.

    Args:
        network: "fd_mobilenet", "mobilenet", "shufflenet" or "fd_shufflenet".
        alpha: Width multiplier, any number above 0.
        groups: Groups of a ShuffleNet; default 3.
        stem_multiplier: Stem width of a ShuffleNet; default alpha, but at least 0.5.
        image_shape: (height, width, channels); None for a side of any length.
        include_preprocessing: True: it takes raw RGB 0..255 and normalizes it. False: feed it
            `fd_keras.preprocess_input(x, include_preprocessing=False)`.
        weights: Initial weights, see `fd_keras.FDMobileNet`; default None (random). They are not part of the
            configuration, since a saved model has weights of its own.
        kwargs: Arguments of the base class: name, trainable.

    Raises:
        ValueError: If an argument is impossible, or the weights do not fit.
        OSError: If the weights cannot be downloaded.
"""


def documented(cls):
    """Class decorator that ends a docstring with the arguments that the backbones share."""
    cls.__doc__ += ARGUMENTS
    return cls


@dataclasses.dataclass(frozen=True)
class Trunk:
    """A network without its classifier; the attributes are arguments of a backbone, see `ARGUMENTS`."""

    network: str
    alpha: float
    groups: int | None
    stem_multiplier: float | None
    image_shape: tuple[int | None, ...]
    include_preprocessing: bool

    @property
    def arch(self) -> Arch:
        """The table of the network."""
        return get_arch(self.network, self.groups, self.stem_multiplier)

    def build(self, weights: str | os.PathLike | None) -> keras.Model:
        """The Keras model of the network; raises as `fd_keras.FDMobileNet`."""
        arguments = self.config()
        network, image_shape = arguments.pop("network"), arguments.pop("image_shape")
        return build_by_name(network, **arguments, input_shape=image_shape, include_top=False, weights=weights)

    def levels(self) -> dict[str, str]:
        """The layer that gives each level of the pyramid: {"P1": name, ... "P5": name}."""
        layers = feature_layers(self.network, self.groups)
        return {f"P{stride.bit_length() - 1}": name for stride, name in layers.items()}

    def config(self) -> dict[str, Any]:
        """The arguments, for a backbone's configuration."""
        return dataclasses.asdict(self)


def _preset(checkpoint: Checkpoint) -> tuple[str, dict]:
    arch = get_arch(checkpoint.arch, checkpoint.groups, checkpoint.stem_multiplier)
    name = f"{model_name(arch, checkpoint.alpha, (None, None))}_{checkpoint.collection}"
    metadata = {
        "description": f"{arch.title} {checkpoint.alpha:g}x, trained on ImageNet.",
        "license": checkpoint.license,
        "top1": checkpoint.top1,
        "url": checkpoint.url,
    }
    config = {
        "network": checkpoint.arch,
        "alpha": checkpoint.alpha,
        "groups": checkpoint.groups,
        "stem_multiplier": checkpoint.stem_multiplier,
        "weights": checkpoint.collection,
    }
    return name, {"metadata": metadata, "config": config}


# Published checkpoints as presets, such as "fd_mobilenet_0.5_imagenet". "config" has a backbone's arguments; "metadata"
# has the key that both libraries' own presets have, and what a checkpoint is known for.
PRESETS = dict(map(_preset, CHECKPOINTS))


def preset_config(preset: str, load_weights: bool) -> dict[str, Any]:
    """The arguments of a backbone for a preset."""
    config = PRESETS[preset]["config"]
    return config if load_weights else config | {"weights": None}

"""Common parts of the backbones for both libraries: network without classifier, feature pyramid and presets."""

import dataclasses
import os
from typing import Any

import keras

from fd_keras.applications import build_by_name, feature_layers
from fd_keras.spec import Arch, model_name
from fd_keras.weights import CHECKPOINTS, Checkpoint
from fd_keras.zoo import get_arch

ARGUMENTS = """
    The feature pyramid has the levels P1 to P5; Pn has stride 2^n.

    Args:
        network: "fd_mobilenet", "mobilenet", "shufflenet" or "fd_shufflenet".
        alpha: Width multiplier, above 0.
        groups: Number of groups of a ShuffleNet; default 3.
        stem_multiplier: Stem width of a ShuffleNet; default alpha, but at least 0.5.
        image_shape: (height, width, channels) of the images; a height or width of None is variable.
        include_preprocessing: Whether the network normalizes raw RGB 0..255 itself. If not, pass
            `fd_keras.preprocess_input(x, include_preprocessing=False)`.
        weights: Initial weights, see `fd_keras.FDMobileNet`; default None (random). They are not part of the
            configuration, since a saved model contains its weights.
        kwargs: Arguments of the base class: name, trainable.

    Raises:
        ValueError: If an argument is invalid, or the weights do not match the network.
        OSError: If the weights cannot be downloaded.
"""


def documented(cls):
    """Class decorator that appends the arguments that the backbones share to the docstring."""
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
        """Builds the Keras model of the network; raises the errors of `fd_keras.FDMobileNet`."""
        arguments = self.config()
        network, image_shape = arguments.pop("network"), arguments.pop("image_shape")
        return build_by_name(network, **arguments, input_shape=image_shape, include_top=False, weights=weights)

    def levels(self) -> dict[str, str]:
        """Returns the names of the layers whose outputs are the levels of the pyramid: {"P1": name, ... "P5": name}."""
        layers = feature_layers(self.network, self.groups)
        return {f"P{stride.bit_length() - 1}": name for stride, name in layers.items()}

    def config(self) -> dict[str, Any]:
        """Returns the arguments, for the configuration of a backbone."""
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


# Published checkpoints as presets, such as "fd_mobilenet_0.5_imagenet". "config" has the arguments of a backbone;
# "metadata" has the "description" of the libraries' presets, and facts about the checkpoint.
PRESETS = dict(map(_preset, CHECKPOINTS))


def preset_config(preset: str, load_weights: bool) -> dict[str, Any]:
    """Returns the arguments of a backbone for a preset."""
    config = PRESETS[preset]["config"]
    return config if load_weights else config | {"weights": None}

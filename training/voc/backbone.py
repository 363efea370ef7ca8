"""The backbone of a detector, and its initial ImageNet weights."""

import dataclasses

import keras

from fd_keras import google_mobilenet, spec, zoo
from fd_keras import weights as weights_lib
from fd_keras.spec import Arch, Op

_GOOGLE = ".tflite"  # suffix of Google's files


@dataclasses.dataclass(frozen=True)
class Backbone:
    """The network under a detector.

    Attributes:
        arch: Table of the network, with the conventions of its initial weights.
        alpha: Width multiplier.
        rescaling: Scale and offset from RGB 0..255 to the network's input; None for those of the zoo.
    """

    arch: Arch
    alpha: float
    rescaling: tuple[float, float] | None = None

    @property
    def ops(self) -> tuple[Op, ...]:
        """Ops without the classifier, for images of any size."""
        return spec.lower(self.arch, self.alpha, (None, None), include_top=False)


def choose(
    name: str, alpha: float, groups: int | None = None, stem_multiplier: float | None = None, weights: str | None = None
) -> Backbone:
    """Returns the backbone that the flags name.

    Args:
        name: Key of `zoo.ARCHS`.
        alpha: Width multiplier.
        groups: Number of groups of a ShuffleNet.
        stem_multiplier: Stem width of a ShuffleNet.
        weights: Initial weights, see `load_weights`. Google's need TensorFlow's padding, ReLU6, and an input between
            -1 and 1; the rest of the table is the same.

    Raises:
        ValueError: If the network is unknown, or the weights are a .tflite file and it is not MobileNet.
    """
    arch = zoo.get_arch(name, groups, stem_multiplier)
    if not _is_google(weights):
        return Backbone(arch, alpha)
    if arch.name != "mobilenet":
        raise ValueError(
            f"--init_weights={weights}: .tflite weights are only supported for --backbone=mobilenet, not {name}."
        )
    return Backbone(google_mobilenet.ARCH, alpha, google_mobilenet.RESCALING)


def _is_google(weights: str | None) -> bool:
    return weights is not None and weights.endswith(_GOOGLE)


def load_weights(net: keras.Model, weights: str, backbone: Backbone) -> None:
    """Loads the weights that `--init_weights` names into the layers of the backbone.

    Args:
        net: Model that contains the layers of the zoo's network.
        weights: "imagenet", "imagenet_authors", or the path of a .keras or .weights.h5 file, of imgclsmob's or the
            authors' files, or of Google's float MobileNet v1 as .tflite.
        backbone: Backbone from `choose`, for the same weights.

    Raises:
        ValueError: If the weights do not fit the backbone.
        OSError: If the weights cannot be read or downloaded.
    """
    if _is_google(weights):
        values = google_mobilenet.read(weights, backbone.ops)
    else:
        values = weights_lib.read(weights, backbone.arch, backbone.alpha, backbone.ops)
    for layer, arrays in values.items():
        net.get_layer(layer).set_weights(arrays)

"""The network under a detector, and the ImageNet weights that it starts from."""

import dataclasses

import keras

from fd_keras import google_mobilenet, spec, zoo
from fd_keras import weights as weights_lib
from fd_keras.spec import Arch, Op

_GOOGLE = ".tflite"  # how the name of Google's files ends


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network as a detector is built on it.

    Attributes:
        arch: Table of the network, with the conventions of the weights that it starts from.
        alpha: Width multiplier.
        rescaling: Scale and offset from RGB 0..255 to its input; None for the zoo's own.
    """

    arch: Arch
    alpha: float
    rescaling: tuple[float, float] | None = None

    @property
    def ops(self) -> tuple[Op, ...]:
        """Without the classifier, for images of any size."""
        return spec.lower(self.arch, self.alpha, (None, None), include_top=False)


def choose(
    name: str, alpha: float, groups: int | None = None, stem_multiplier: float | None = None, weights: str | None = None
) -> Backbone:
    """The network that the flags name.

    Args:
        name: Key of `zoo.ARCHS`.
        alpha: Width multiplier.
        groups: Groups of a ShuffleNet.
        stem_multiplier: Stem width of a ShuffleNet.
        weights: Weights that it will start from, see `load_weights`. Those of Google need TensorFlow's padding, ReLU6,
            and an input between -1 and 1; the rest of the table is the same.

    Raises:
        ValueError: For an unknown network, or a .tflite of another than MobileNet.
    """
    arch = zoo.get_arch(name, groups, stem_multiplier)
    if not _is_google(weights):
        return Backbone(arch, alpha)
    if arch.name != "mobilenet":
        raise ValueError(f"{weights}: of .tflite files only Google's MobileNet v1 can be read; --backbone is {name}.")
    return Backbone(google_mobilenet.ARCH, alpha, google_mobilenet.RESCALING)


def _is_google(weights: str | None) -> bool:
    return weights is not None and weights.endswith(_GOOGLE)


def load_weights(net: keras.Model, weights: str, backbone: Backbone) -> None:
    """Gives the layers of the backbone the weights that `--init_weights` names.

    Args:
        net: Model with the layers of the zoo's network, whatever else it has.
        weights: "imagenet", "imagenet_authors", the path of a .keras, .weights.h5, imgclsmob's or the authors' file, or
            of Google's float MobileNet v1 as .tflite.
        backbone: Network from `choose`, with the same weights.

    Raises:
        ValueError: If they do not fit.
        OSError: If they cannot be read or downloaded.
    """
    if _is_google(weights):
        values = google_mobilenet.read(weights, backbone.ops)
    else:
        values = weights_lib.read(weights, backbone.arch, backbone.alpha, backbone.ops)
    for layer, arrays in values.items():
        net.get_layer(layer).set_weights(arrays)

"""The network under a detector, and the ImageNet weights that it starts from."""

import dataclasses
import os
from collections.abc import Iterator

import keras
import numpy as np

from fd_keras import spec, zoo
from fd_keras import weights as weights_lib
from fd_keras.litert import read_weights
from fd_keras.spec import Arch, Op

_GOOGLE = ".tflite"  # how the name of Google's files ends


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network as a detector is built on it.

    Attributes:
        arch: its table, with the conventions of the weights that it starts from.
        alpha: its width.
        rescaling: scale and offset from RGB 0..255 to its input; None for the zoo's own.
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
    """The network that the flags mean.

    Args:
        name: a key of `zoo.ARCHS`.
        alpha: its width.
        groups: of a ShuffleNet.
        stem_multiplier: of a ShuffleNet.
        weights: what it will start from, see `load_weights`. Those of Google need TensorFlow's padding, ReLU6, and an
            input between -1 and 1; the rest of the table is the same.

    Raises:
        ValueError: for a network that is not there, or a .tflite of another than MobileNet.
    """
    arch = zoo.get_arch(name, groups, stem_multiplier)
    if not _is_google(weights):
        return Backbone(arch, alpha)
    if arch.name != "mobilenet":
        raise ValueError(f"{weights}: of .tflite files only Google's MobileNet v1 can be read; --backbone is {name}.")
    return Backbone(dataclasses.replace(arch, padding="same", activation="relu6"), alpha, (1 / 127.5, -1.0))


def _is_google(weights: str | None) -> bool:
    return weights is not None and weights.endswith(_GOOGLE)


def load_weights(net: keras.Model, weights: str, backbone: Backbone) -> None:
    """Gives the layers of the backbone the weights that `--init_weights` names.

    Args:
        net: with the layers of the zoo's network, whatever else it has.
        weights: "imagenet", "imagenet_authors", the path of a .keras, .weights.h5, imgclsmob's or the authors' file, or
            of Google's float MobileNet v1 as .tflite.
        backbone: from `choose`, with the same weights.

    Raises:
        ValueError: if they do not fit; OSError if they cannot be had.
    """
    if _is_google(weights):
        values = dict(_google(weights, backbone))
    else:
        values = weights_lib.read(weights, backbone.arch, backbone.alpha, backbone.ops)
    for layer, arrays in values.items():
        net.get_layer(layer).set_weights(arrays)


def _google(path: str, backbone: Backbone) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The weights in Google's file by layer name.

    Its batch normalizations are folded, which leaves kernels of norms from .01 to 46, and one learning rate serves
    those badly. So each channel's norm becomes that of He's initialization, about where training with a batch
    normalization leaves it, and ours, which is frozen, multiplies by the rest: the same function, but one that learns
    somewhat faster (docs/results/voc.md).

    Raises:
        ValueError: if the file is another network, or of another width.
    """
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise ValueError(f"--init_weights={path}: no such file.")
    tensors = {name.split("MobilenetV1/")[-1]: array for name, array in read_weights(path).items()}
    for op in backbone.ops:
        kernel_name, bias_name = _google_names(op)
        if kernel_name not in tensors or bias_name not in tensors:
            raise ValueError(f"{path}: has no tensor {kernel_name!r}; it is not Google's float MobileNet v1.")
        # (cout, h, w, cin) there, of a depthwise one (1, h, w, cin); Keras has these as (h, w, cin, cout).
        kernel, bias = tensors[kernel_name].transpose(1, 2, 3, 0), tensors[bias_name]
        if kernel.shape != op.kernel_shape:
            raise ValueError(f"{path}: {kernel_name} is {kernel.shape}, not {op.kernel_shape}; pass its --alpha.")
        norms = np.sqrt(np.square(kernel).sum(axis=(0, 1) if op.kind == "depthwise" else (0, 1, 2)))
        gains = np.where(norms > 0, norms / np.sqrt(2, dtype="float32"), 1)
        yield op.name, [kernel / gains]
        mean, variance = np.zeros_like(bias), np.full_like(bias, 1 - backbone.arch.bn_epsilon)
        yield f"{op.name}_bn", [gains.ravel(), bias, mean, variance]


def _google_names(op: Op) -> tuple[str, str]:
    """Of its kernel and its bias in Google's file."""
    if op.name == "conv1":
        return "Conv2d_0/weights", "Conv2d_0/Conv2D_bias"
    index = op.name.rpartition("_")[-1]  # conv_dw_3, conv_pw_3
    if op.kind == "depthwise":
        return f"Conv2d_{index}_depthwise/depthwise_weights", f"Conv2d_{index}_depthwise/depthwise_bias"
    return f"Conv2d_{index}_pointwise/weights", f"Conv2d_{index}_pointwise/Conv2D_bias"

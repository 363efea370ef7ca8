"""The network under a detector, and the ImageNet weights that it starts from."""

import dataclasses
import os
from collections.abc import Iterator

import keras
import numpy as np

from fd_keras import imagenet, spec, zoo
from fd_keras import weights as weights_lib
from fd_keras.litert import read_weights
from fd_keras.spec import Arch, Op

# Google's checkpoints want TensorFlow's padding and ReLU6; the rest of the table is the same.
_GOOGLE = {"padding": "same", "activation": "relu6"}
_TFLITE = ".tflite"


def arch_of(name: str, groups: int | None, stem_multiplier: float | None, weights: str | None) -> Arch:
    """The table of a network, with the conventions of the weights that it will start from.

    Raises:
        ValueError: for a network that is not there, or a .tflite of another than MobileNet.
    """
    arch = zoo.get_arch(name, groups, stem_multiplier)
    if not _is_google(weights):
        return arch
    if arch.name != "mobilenet":
        raise ValueError(f"{weights}: of .tflite files only Google's MobileNet v1 can be read; --backbone is {name}.")
    return dataclasses.replace(arch, **_GOOGLE)


def _is_google(weights: str | None) -> bool:
    return weights is not None and weights.endswith(_TFLITE)


def load_weights(net: keras.Model, weights: str, arch: Arch, alpha: float) -> None:
    """Gives the layers of the backbone the weights that `--init_weights` names.

    Args:
        net: with the layers of the zoo's network, whatever else it has.
        weights: "imagenet", "imagenet_authors", the path of a .keras, .weights.h5, imgclsmob's or the authors' file, or
            of Google's float MobileNet v1 as .tflite.
        arch: from `arch_of`.
        alpha: width.

    Raises:
        ValueError: if they do not fit; OSError if they cannot be had.
    """
    ops = spec.lower(arch, alpha, (None, None), include_top=False)
    values = dict(_google(weights, ops)) if _is_google(weights) else weights_lib.read(weights, arch, alpha, ops)
    for layer, arrays in values.items():
        net.get_layer(layer).set_weights(arrays)


def _google(path: str, ops: tuple[Op, ...]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The weights in Google's file by layer name; its batch normalizations are folded, so these become plain biases.

    The file's input is x / 127.5 - 1, ours is normalized by ImageNet's mean and deviation: the first kernel and bias
    take the difference up, exactly but for the border, where padding is grey in the one and the mean in the other.

    Raises:
        ValueError: if the file is another network, or of another width.
    """
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise ValueError(f"--init_weights={path}: no such file.")
    tensors = {name.split("MobilenetV1/")[-1]: array for name, array in read_weights(path).items()}
    for op in ops:
        name, kernel_name, axes = _google_name(op)
        try:
            kernel, bias = tensors[f"{name}/{kernel_name}weights"], tensors[f"{name}/{_bias_name(op)}"]
        except KeyError as error:
            raise ValueError(f"{path}: has no tensor {error}; it is not Google's float MobileNet v1.") from None
        kernel = kernel.transpose(axes)
        if kernel.shape != op.kernel_shape:
            raise ValueError(f"{path}: {name} is {kernel.shape}, not {op.kernel_shape}; pass its --alpha.")
        if op is ops[0]:
            scale, offset = (np.array(imagenet.rescaling()[key]) for key in ("scale", "offset"))
            ours = 1 / (127.5 * scale)  # x / 127.5 - 1 = ours * (scale * x + offset) + shift
            shift = -1 - ours * offset
            bias = bias + np.einsum("hwio,i->o", kernel, shift)
            kernel = kernel * ours[:, None]
        yield op.name, [kernel]
        ones, zeros = np.ones_like(bias), np.zeros_like(bias)
        yield f"{op.name}_bn", [ones, bias, zeros, ones - _EPSILON]


_EPSILON = zoo.MOBILENET.bn_epsilon


def _google_name(op: Op) -> tuple[str, str, tuple[int, ...]]:
    """Its scope in Google's file, how its kernel's name begins there, and the axes that make the kernel Keras's."""
    if op.name == "conv1":
        return "Conv2d_0", "", (1, 2, 3, 0)
    _, part, index = op.name.split("_")
    if part == "dw":
        return f"Conv2d_{index}_depthwise", "depthwise_", (1, 2, 3, 0)
    return f"Conv2d_{index}_pointwise", "", (1, 2, 3, 0)


def _bias_name(op: Op) -> str:
    return "depthwise_bias" if op.kind == "depthwise" else "Conv2D_bias"

"""The networks as Keras applications."""

import operator
import os
from collections.abc import Sequence
from typing import cast

import keras

from fd_keras import builder, imagenet, layers, spec
from fd_keras import weights as weights_lib
from fd_keras.spec import IMAGE, Arch, check_size, lower, model_name
from fd_keras.zoo import get_arch

_ARGUMENTS = """
    Args:
        input_shape: (height, width, channels), each side at least 32; default (224, 224, 3), or (None, None, 3)
            without the top. Images are channels-last whatever Keras's global setting.
        alpha: Width multiplier, any number above 0; a layer has int(filters * alpha) channels, at least 1.
        include_top: Whether to end with global average pooling and the classifier.
        weights: None (random), "imagenet" (imgclsmob's, MIT), "imagenet_authors" (FD-MobileNet 1, 0.5 and 0.25 by the
            paper's authors), or the path of a `.keras`, `.weights.h5`, imgclsmob `.h5` or authors' `.pth.tar` file.
        input_tensor: Keras tensor to use as the image instead of a new input.
        pooling: Without the top: None for the last feature map, "avg" or "max" for a vector.
        classes: Number of classes.
        classifier_activation: Activation of the classifier; None for logits.
        name: Name of the model; default such as "fd_mobilenet_0.25_224".
        dropout: Dropout rate before the classifier.
        include_preprocessing: True: the model takes raw RGB 0..255 and normalizes it. False: feed it
            `preprocess_input(x, include_preprocessing=False)`. Channels other than RGB's three are normalized by the
            average of RGB's statistics.{more}

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If an argument is impossible, or the weights do not fit; the message names what would.
        OSError: If the weights cannot be downloaded.
"""

_GROUPS = """
        groups: Groups of the pointwise convolutions: {groups}. Channels are rounded up to a multiple of 4 * groups.
        stem_multiplier: Width of the first convolution; default alpha, but at least 0.5, which makes the paper's 13
            MFLOPs at 0.25 (imgclsmob's ShuffleNet 0.25x has stem_multiplier=0.25)."""


def _documented(groups: str = ""):
    """Decorator that ends a docstring with the arguments that all applications share."""

    def decorate(function):
        more = _GROUPS.format(groups=groups) if groups else ""
        function.__doc__ += _ARGUMENTS.format(more=more)
        return function

    return decorate


@_documented()
def FDMobileNet(
    input_shape: Sequence[int | None] | None = None,
    alpha: float = 1.0,
    include_top: bool = True,
    weights: str | os.PathLike | None = "imagenet",
    input_tensor: keras.KerasTensor | None = None,
    pooling: str | None = None,
    classes: int = imagenet.CLASSES,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    dropout: float = 0.0,
    include_preprocessing: bool = True,
) -> keras.Model:
    """FD-MobileNet (Qin et al., arXiv 1802.03750): MobileNet that reaches stride 32 within 12 layers.

    At 224x224 it has 144 / 40 / 12 million multiply-accumulates at alpha 1 / 0.5 / 0.25.
    """
    return application(
        get_arch("fd_mobilenet"),
        input_shape=input_shape,
        alpha=alpha,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        dropout=dropout,
        include_preprocessing=include_preprocessing,
    )


@_documented()
def MobileNet(
    input_shape: Sequence[int | None] | None = None,
    alpha: float = 1.0,
    include_top: bool = True,
    weights: str | os.PathLike | None = "imagenet",
    input_tensor: keras.KerasTensor | None = None,
    pooling: str | None = None,
    classes: int = imagenet.CLASSES,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    dropout: float = 0.0,
    include_preprocessing: bool = True,
) -> keras.Model:
    """MobileNet (Howard et al., arXiv 1704.04861) as the FD-MobileNet paper's authors built it as their baseline.

    Unlike `keras.applications.MobileNet` it has ReLU, symmetric padding and batch-norm epsilon 1e-5, so weights do
    not carry over. At 224x224 it has 149 / 41 / 12 million multiply-accumulates at alpha 0.5 / 0.25 / 0.125.
    """
    return application(
        get_arch("mobilenet"),
        input_shape=input_shape,
        alpha=alpha,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        dropout=dropout,
        include_preprocessing=include_preprocessing,
    )


@_documented(groups="1, 2, 3, 4 or 8")
def ShuffleNet(
    input_shape: Sequence[int | None] | None = None,
    alpha: float = 1.0,
    include_top: bool = True,
    weights: str | os.PathLike | None = "imagenet",
    input_tensor: keras.KerasTensor | None = None,
    pooling: str | None = None,
    classes: int = imagenet.CLASSES,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    dropout: float = 0.0,
    include_preprocessing: bool = True,
    groups: int = 3,
    stem_multiplier: float | None = None,
) -> keras.Model:
    """ShuffleNet v1 (Zhang et al., arXiv 1707.01083), which the FD-MobileNet paper compares with.

    At 224x224 it has 137 / 38 / 13 million multiply-accumulates at alpha 1 / 0.5 / 0.25 and 3 groups.
    """
    return application(
        get_arch("shufflenet", groups, stem_multiplier),
        input_shape=input_shape,
        alpha=alpha,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        dropout=dropout,
        include_preprocessing=include_preprocessing,
    )


@_documented(groups="3")
def FDShuffleNet(
    input_shape: Sequence[int | None] | None = None,
    alpha: float = 1.0,
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    pooling: str | None = None,
    classes: int = imagenet.CLASSES,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    dropout: float = 0.0,
    include_preprocessing: bool = True,
    groups: int = 3,
    stem_multiplier: float | None = None,
) -> keras.Model:
    """FD-ShuffleNet: ShuffleNet with fast downsampling, the future work of arXiv 1802.03750. A design of this project.

    ShuffleNet is at stride 4 after two layers, but reaches stride 32 only at layer 40. A shuffle unit is three layers
    deep, so stride 32 within 12 layers leaves room for just one unit each at strides 8 and 16 (stride 32 is then
    reached at layer 10). As in FD-MobileNet, six units work at stride 32. What that saves is spent on channels: 240 /
    480 / 960 become 336 / 672 / 1344, the widest table within ShuffleNet's budget that scales to alpha 0.5 and
    0.25 without rounding. At 224x224 it has 135 / 37 / 13 million multiply-accumulates at alpha 1 / 0.5 / 0.25. The
    table was chosen by cost and depth alone; no accuracy on ImageNet is known, and there are no weights.
    """
    return application(
        get_arch("fd_shufflenet", groups, stem_multiplier),
        input_shape=input_shape,
        alpha=alpha,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        dropout=dropout,
        include_preprocessing=include_preprocessing,
    )


def build_by_name(model: str, *, groups: int | None = None, stem_multiplier: float | None = None, **arguments):
    """Builds a network by the name that flags use, e.g. "fd_mobilenet"; `arguments` are an application's."""
    return application(get_arch(model, groups, stem_multiplier), **arguments)


def application(
    arch: Arch,
    *,
    input_shape: Sequence[int | None] | None = None,
    alpha: float = 1.0,
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    pooling: str | None = None,
    classes: int = imagenet.CLASSES,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    dropout: float = 0.0,
    include_preprocessing: bool = True,
) -> keras.Model:
    """Builds any `Arch` as a Keras application; the arguments are those of `FDMobileNet`."""
    image = _image(input_shape, input_tensor, include_top)
    *size, channels = image.shape[1:]
    _check(weights, include_top, pooling, classes, classifier_activation, dropout)
    ops = lower(arch, alpha, check_size(size), channels=channels, include_top=include_top, classes=classes)
    values = None if weights is None else weights_lib.read(weights, arch, float(alpha), ops)
    x = builder.build(
        arch,
        ops,
        image,
        include_preprocessing=include_preprocessing,
        classifier_activation=classifier_activation,
        dropout=dropout,
    )
    if not include_top and pooling:
        pool = layers.GlobalAveragePooling2D if pooling == "avg" else layers.GlobalMaxPooling2D
        x = pool(data_format="channels_last", name=f"{pooling}_pool")(x)
    inputs = image if input_tensor is None else _source(input_tensor)
    model = keras.Model(inputs, x, name=name or model_name(arch, alpha, size))
    for layer, arrays in (values or {}).items():
        model.get_layer(layer).set_weights(arrays)
    return model


_CHANNELS = (1, 3, 4)  # of the images that people have


def _image(input_shape, input_tensor, include_top: bool) -> keras.KerasTensor:
    """The tensor that the network starts from: `input_tensor`, or a new input of the right default shape."""
    if input_tensor is not None:
        if not keras.utils.is_keras_tensor(input_tensor):
            raise ValueError("input_tensor must be a Keras tensor, such as keras.Input(...) returns.")
        shape = tuple(input_tensor.shape[1:])
        if not _is_image_shape(shape):
            raise ValueError(f"input_tensor must be (batch, height, width, channels), but its images are {shape}.")
        if input_shape is not None and _plain_shape(input_shape) != shape:
            raise ValueError(
                f"input_shape={_plain_shape(input_shape)} contradicts input_tensor, whose images are {shape}; leave "
                "input_shape out."
            )
        return input_tensor
    if input_shape is None:
        side = imagenet.SIZE if include_top else None
        input_shape = (side, side, 3)
    shape = _plain_shape(input_shape)
    if len(shape) == 3 and shape[0] in _CHANNELS and shape[2] not in _CHANNELS:
        raise ValueError(
            f"input_shape={shape} looks like channels_first; these networks are channels_last whatever Keras's setting "
            f"({keras.config.image_data_format()}): pass {(*shape[1:], shape[0])}."
        )
    if not _is_image_shape(shape):
        raise ValueError(f"input_shape must be (height, width, channels), e.g. (224, 224, 3), got {input_shape!r}.")
    if include_top and None in shape:
        raise ValueError(f"input_shape={shape}: the height and width may be None only with include_top=False.")
    return cast(keras.KerasTensor, layers.Input(shape, name=IMAGE))


def _plain_shape(shape) -> tuple[int | None, ...]:
    """A shape of whatever makes one (a TensorShape, NumPy's integers) as numbers; () for anything else."""
    try:
        return tuple(None if side is None else operator.index(side) for side in shape)
    except TypeError:
        return ()


def _is_image_shape(shape: tuple[int | None, ...]) -> bool:
    """Whether it is (height, width, channels), the first two perhaps None."""
    return len(shape) == 3 and (shape[2] or 0) > 0


def _source(tensor):
    """The input that a tensor was computed from, as `keras.Model` likes it: a single one not in a list."""
    sources = keras.utils.get_source_inputs(tensor)
    return sources[0] if len(sources) == 1 else sources


def _check(weights, include_top, pooling, classes, activation, dropout) -> None:
    """Raises ValueError for arguments that contradict each other."""
    if pooling not in (None, "avg", "max"):
        raise ValueError(f'pooling must be None, "avg" or "max", got {pooling!r}.')
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, got {dropout!r}.")
    if weights is None or not include_top:
        return
    if weights in weights_lib.COLLECTIONS and classes != imagenet.CLASSES:
        raise ValueError(
            f"weights={weights!r} come with {imagenet.CLASSES} classes, not {classes}; pass include_top=False and add "
            "a classifier, or weights=None."
        )
    if keras.activations.get(activation) not in (keras.activations.softmax, keras.activations.linear):
        raise ValueError(
            f'Trained weights need classifier_activation="softmax", or None for logits, got {activation!r}.'
        )


def feature_layers(model: str, groups: int | None = None) -> dict[int, str]:
    """Names of the layers that give the last feature map at each stride, for detectors and segmenters.

    Args:
        model: Name of the network: "fd_mobilenet", "mobilenet", "shufflenet" or "fd_shufflenet".
        groups: Groups of a ShuffleNet.

    Returns:
        {2: name, 4: name, 8: name, 16: name, 32: name}; the names do not depend on alpha.

    Example:
        >>> names = fd_keras.feature_layers("fd_mobilenet")
        >>> trunk = fd_keras.FDMobileNet(alpha=0.5, include_top=False)
        >>> pyramid = keras.Model(trunk.input, [trunk.get_layer(names[s]).output for s in (8, 16, 32)])
    """
    return spec.feature_layers(lower(get_arch(model, groups), include_top=False))

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
            without the top. Images are always channels-last, regardless of Keras's global setting.
        alpha: Width multiplier, any number above 0; a layer has int(filters * alpha) channels, at least 1.
        include_top: Whether to add global average pooling and the classifier.
        weights: None (random), "imagenet" (from imgclsmob, MIT), "imagenet_authors" (the paper's authors', for
            FD-MobileNet 1x, 0.5x and 0.25x), or the path of a `.keras`, `.weights.h5`, imgclsmob `.h5` or authors'
            `.pth.tar` file.
        input_tensor: Keras tensor to use as the image instead of a new input.
        pooling: Without the top: None for the last feature map, "avg" or "max" for a vector.
        classes: Number of classes.
        classifier_activation: Activation of the classifier; None for logits.
        name: Name of the model; by default made from the network, alpha and size: "fd_mobilenet_0.25_224".
        dropout: Dropout rate before the classifier.
        include_preprocessing: True: the model takes raw RGB 0..255 and normalizes it. False: feed it
            `preprocess_input(x, include_preprocessing=False)`. If the image does not have three channels, all of them
            are normalized by the average of the RGB statistics.{more}

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If an argument is invalid, or the weights do not fit; the message names arguments that fit.
        OSError: If the weights cannot be downloaded.
"""

_GROUPS = """
        groups: Groups of the pointwise convolutions: {groups}. Channels are rounded up to a multiple of 4 * groups.
        stem_multiplier: Width multiplier of the first convolution; default alpha, but at least 0.5, which gives the
            paper's 13 MFLOPs at alpha 0.25 (imgclsmob's ShuffleNet 0.25x has stem_multiplier=0.25)."""


def _documented(groups: str = ""):
    """Decorator that appends the arguments that all applications share to the docstring."""

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
    """FD-MobileNet (Qin et al., arXiv 1802.03750): a MobileNet that reaches stride 32 within 12 layers.

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
    """MobileNet (Howard et al., arXiv 1704.04861), in the variant that the FD-MobileNet paper has as its baseline.

    Unlike `keras.applications.MobileNet`, it has ReLU, symmetric padding and a batch-norm epsilon of 1e-5, so weights
    of that model do not fit. At 224x224 it has 149 / 41 / 12 million multiply-accumulates at alpha 0.5 / 0.25 / 0.125.
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
    """ShuffleNet v1 (Zhang et al., arXiv 1707.01083), a baseline of the FD-MobileNet paper.

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
    """FD-ShuffleNet: ShuffleNet with fast downsampling, the future work of arXiv 1802.03750, designed here.

    ShuffleNet is at stride 4 after two layers, but reaches stride 32 only at layer 40. A shuffle unit is three layers
    deep, so reaching stride 32 within 12 layers allows only one unit each at strides 8 and 16 (stride 32 is then
    reached at layer 10). As in FD-MobileNet, six units run at stride 32. The computation saved goes into channels:
    240 / 480 / 960 become 336 / 672 / 1344, the widest configuration within ShuffleNet's budget that scales to alpha
    0.5 and 0.25 without rounding. At 224x224 it has 135 / 37 / 13 million multiply-accumulates at alpha 1 / 0.5 /
    0.25. The channels were chosen by cost and depth alone; its accuracy on ImageNet is unknown, and there are no
    pretrained weights.
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
    """Builds a network by its name in flags, e.g. "fd_mobilenet"; `arguments` are those of `application`."""
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


_CHANNELS = (1, 3, 4)  # usual channel counts of images: gray, RGB, RGBA


def _image(input_shape, input_tensor, include_top: bool) -> keras.KerasTensor:
    """The tensor that the network starts from: `input_tensor`, or a new input of the right default shape."""
    if input_tensor is not None:
        if not keras.utils.is_keras_tensor(input_tensor):
            raise ValueError("input_tensor must be a Keras tensor, such as the one that keras.Input(...) returns.")
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
            f"input_shape={shape} looks like channels_first; these networks are always channels_last, whatever Keras's "
            f"setting ({keras.config.image_data_format()}): pass {(*shape[1:], shape[0])}."
        )
    if not _is_image_shape(shape):
        raise ValueError(f"input_shape must be (height, width, channels), e.g. (224, 224, 3), got {input_shape!r}.")
    if include_top and None in shape:
        raise ValueError(f"input_shape={shape}: the height and width may be None only with include_top=False.")
    return cast(keras.KerasTensor, layers.Input(shape, name=IMAGE))


def _plain_shape(shape) -> tuple[int | None, ...]:
    """Converts anything shape-like (a TensorShape, NumPy integers) to a tuple; () for anything else."""
    try:
        return tuple(None if side is None else operator.index(side) for side in shape)
    except TypeError:
        return ()


def _is_image_shape(shape: tuple[int | None, ...]) -> bool:
    """Whether a shape is (height, width, channels), where height and width may be None."""
    return len(shape) == 3 and (shape[2] or 0) > 0


def _source(tensor):
    """The input that a tensor was computed from, in the form that `keras.Model` takes: a single one is not a list."""
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
            f"weights={weights!r} have {imagenet.CLASSES} classes, not {classes}; pass include_top=False and add "
            "a classifier, or pass weights=None."
        )
    if keras.activations.get(activation) not in (keras.activations.softmax, keras.activations.linear):
        raise ValueError(
            f'Pretrained weights need classifier_activation="softmax", or None for logits, got {activation!r}.'
        )


def feature_layers(model: str, groups: int | None = None) -> dict[int, str]:
    """Names of the layers that output the last feature map at each stride, for detectors and segmenters.

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

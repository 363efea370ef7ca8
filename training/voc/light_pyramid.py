"""A narrow feature pyramid and heads for RetinaNet, of depthwise separable convolutions.

keras-cv's own have 256 channels and full convolutions for any backbone: seven million weights. SSDLite (arXiv
1801.04381) and EfficientDet (arXiv 1911.09070) use separable convolutions with batch normalization instead. Each level
has its own, since statistics differ between levels; the heads are shared.
"""

import math
from typing import Any

import keras
from keras import layers

LEVELS = ("P3", "P4", "P5")  # of the backbone; the pyramid adds P6 and P7
DEPTH = 2  # separable convolutions at each level, before the heads
ANCHORS = 9  # per cell: keras-cv's three scales and three aspect ratios
PRIOR = 0.01  # initial score of every anchor, as in the RetinaNet paper


def arguments(backbone: Any, classes: int, channels: int) -> dict[str, Any]:
    """Builds the pyramid and the heads; returns them as arguments of keras-cv's RetinaNet.

    Args:
        backbone: Network with the pyramid levels P3 to P5.
        classes: Number of classes.
        channels: Channels of the pyramid and the heads.
    """
    return {
        "feature_pyramid": _pyramid(_inputs(backbone), channels),
        "classification_head": _head("classes", channels, ANCHORS * classes, bias=-math.log(1 / PRIOR - 1)),
        "box_head": _head("boxes", channels, ANCHORS * 4, bias=0.0),
    }


def _inputs(backbone: Any) -> dict[str, Any]:
    """Returns inputs with the shapes of the backbone's levels."""
    names = backbone.pyramid_level_inputs
    return {level: keras.Input(backbone.get_layer(names[level]).output.shape[1:], name=level) for level in LEVELS}


def _pyramid(inputs: dict[str, Any], channels: int) -> keras.Model:
    """Builds the feature pyramid (arXiv 1612.03144): levels P3 to P5 in, P3 to P7 out."""
    p3, p4, p5 = (_pointwise(inputs[level], channels, f"{level}_lateral") for level in LEVELS)
    p4 = layers.Add(name="P4_sum")([p4, layers.UpSampling2D(name="P5_up")(p5)])
    p3 = layers.Add(name="P3_sum")([p3, layers.UpSampling2D(name="P4_up")(p4)])
    p6 = _separable(p5, channels, "P6_down", strides=2)
    p7 = _separable(p6, channels, "P7_down", strides=2)
    outputs = []
    for level, features in zip((*LEVELS, "P6", "P7"), (p3, p4, p5, p6, p7), strict=True):
        for index in range(DEPTH):
            features = _separable(features, channels, f"{level}_{index + 1}")
        outputs.append(features)
    return keras.Model(inputs, outputs, name="pyramid")


def _pointwise(x: Any, channels: int, name: str) -> Any:
    x = layers.Conv2D(channels, 1, use_bias=False, name=name)(x)
    return layers.BatchNormalization(name=f"{name}_bn")(x)


def _separable(x: Any, channels: int, name: str, strides: int = 1) -> Any:
    """Depthwise 3x3 and pointwise convolution, each with batch normalization and ReLU, as in the backbones."""
    x = layers.DepthwiseConv2D(3, strides, "same", use_bias=False, name=f"{name}_dw")(x)
    x = layers.ReLU(name=f"{name}_dw_relu")(layers.BatchNormalization(name=f"{name}_dw_bn")(x))
    return layers.ReLU(name=f"{name}_relu")(_pointwise(x, channels, f"{name}_pw"))


def _head(name: str, channels: int, outputs: int, bias: float) -> keras.Sequential:
    """Builds a head for all levels: a separable convolution to the outputs of a cell's anchors."""
    kernels: Any = keras.initializers.RandomNormal(stddev=0.01)
    biases: Any = keras.initializers.Constant(bias)
    return keras.Sequential(
        [
            layers.Input((None, None, channels)),
            layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_dw"),
            layers.Conv2D(outputs, 1, kernel_initializer=kernels, bias_initializer=biases, name=f"{name}_prediction"),
        ],
        name=name,
    )

"""Builds the Keras graph of a lowered network."""

from collections.abc import Sequence

from fd_keras import imagenet
from fd_keras import layers as keras_layers
from fd_keras.spec import IMAGE, Arch, Op

# All tensors are (batch, height, width, channels), as TFLite needs, regardless of Keras's global setting.
_NHWC = {"data_format": "channels_last"}


def build(
    arch: Arch,
    ops: Sequence[Op],
    image,
    *,
    layers=keras_layers,
    start: str = IMAGE,
    include_preprocessing: bool = True,
    classifier_activation: str | None = "softmax",
    dropout: float = 0.0,
):
    """Applies a lowered network to a tensor.

    Args:
        arch: The network's table, for its padding and batch-normalization constants.
        ops: Ops from `spec.lower`.
        image: Symbolic tensor of shape (batch, height, width, channels).
        layers: Layer namespace, see `fd_keras.layers`.
        start: Name of the op whose output is `image`. Differs from `IMAGE` if `ops` are only the later part of a
            network (see `spec.cut`).
        include_preprocessing: Whether to normalize raw pixels 0..255 first.
        classifier_activation: Activation of the dense op; None for logits.
        dropout: Dropout rate before the dense op; 0 adds no layer.

    Returns:
        The output tensor of the last op.
    """
    if include_preprocessing:
        # Values of shape (1, 1, 3): Rescaling would move flat ones to the first axis if Keras is set to channels-first.
        values = {name: [[numbers]] for name, numbers in imagenet.rescaling(image.shape[-1]).items()}
        image = layers.Rescaling(**values, name="preprocessing")(image)
    tensors = {start: image}
    for op in ops:
        inputs = [tensors[name] for name in op.inputs]
        if op.kind == "dense":
            tensors[op.name] = _classifier(op, inputs[0], layers, classifier_activation, dropout)
        else:
            tensors[op.name] = _apply(arch, op, inputs, layers)
    return tensors[ops[-1].name]


def _apply(arch: Arch, op: Op, inputs: list, layers):
    """Applies the op, then its batch normalization and activation."""
    padding = "same"
    if op.stride > 1 and op.kernel > 1 and arch.padding == "symmetric":
        # torch's padding. Zeros also work for the max pooling, whose input is non-negative after a ReLU.
        inputs = [layers.ZeroPadding2D(op.kernel // 2, **_NHWC, name=f"{op.name}_pad")(inputs[0])]
        padding = "valid"
    x = _LAYERS[op.kind](op, padding, layers)(inputs if len(inputs) > 1 else inputs[0])
    if op.batch_norm:
        x = layers.BatchNormalization(epsilon=arch.bn_epsilon, momentum=arch.bn_momentum, name=f"{op.name}_bn")(x)
    if op.activation:
        x = layers.Activation(op.activation, name=f"{op.name}_{op.activation}")(x)
    return x


def _classifier(op: Op, x, layers, activation: str | None, dropout: float):
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return layers.Dense(op.cout, activation=activation, kernel_initializer=kernel_initializer(op), name=op.name)(x)


def kernel_initializer(op: Op) -> dict:
    """He initialization with fan-out, as in the authors' code, as a config that any Keras version reads.

    For a depthwise kernel, Keras's fan-out (9) is torch's fan-in, which the authors use there. A classifier is
    initialized so that a fresh network's loss is that of guessing, ln(classes), for any number of classes. For
    ImageNet's 1000 classes He's deviation of 0.045 achieves that. With fewer classes, the fan-out deviation would grow,
    to 0.82 for 3: the first losses would be far above chance, and their gradients would destroy pretrained features.
    """
    if op.kind == "dense" and op.cout < imagenet.CLASSES:
        return {"class_name": "RandomNormal", "config": {"stddev": 0.01}}
    config = {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"}
    return {"class_name": "VarianceScaling", "config": config}


def _conv(op: Op, padding: str, layers):
    convolution = layers.GroupedConv2D if op.groups > 1 else layers.Conv2D
    return convolution(
        op.cout,
        op.kernel,
        op.stride,
        padding,
        groups=op.groups,
        use_bias=False,
        kernel_initializer=kernel_initializer(op),
        name=op.name,
        **_NHWC,
    )


def _depthwise(op: Op, padding: str, layers):
    return layers.DepthwiseConv2D(
        op.kernel,
        op.stride,
        padding,
        use_bias=False,
        depthwise_initializer=kernel_initializer(op),
        name=op.name,
        **_NHWC,
    )


_LAYERS = {
    "conv": _conv,
    "depthwise": _depthwise,
    "max_pool": lambda op, padding, layers: layers.MaxPooling2D(op.kernel, op.stride, padding, name=op.name, **_NHWC),
    "avg_pool": lambda op, padding, layers: layers.AveragePooling2D(
        op.kernel, op.stride, padding, name=op.name, **_NHWC
    ),
    "global_pool": lambda op, padding, layers: layers.GlobalAveragePooling2D(name=op.name, **_NHWC),
    "shuffle": lambda op, padding, layers: layers.ChannelShuffle(op.groups, name=op.name),
    "add": lambda op, padding, layers: layers.Add(name=op.name),
    "concat": lambda op, padding, layers: layers.Concatenate(name=op.name),
}

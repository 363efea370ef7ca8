"""The layers that networks are built from: Keras's layers and two that Keras lacks.

The builder takes this namespace as an argument; any module or object with the same names works.
"""

from typing import cast

import keras
from keras import Model
from keras.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    MaxPooling2D,
    Rescaling,
    ZeroPadding2D,
)

__all__ = [
    "Activation",
    "Add",
    "AveragePooling2D",
    "BatchNormalization",
    "ChannelShuffle",
    "Concatenate",
    "Conv2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "GroupedConv2D",
    "Input",
    "MaxPooling2D",
    "Model",
    "Rescaling",
    "ZeroPadding2D",
]


@keras.saving.register_keras_serializable(package="fd_keras")
class GroupedConv2D(keras.layers.Conv2D):
    """A Conv2D that runs its groups one by one in training, for speed.

    Its results and weights are those of a grouped Conv2D. TensorFlow's gradient of a grouped convolution is slow on
    CPUs: `benchmarks/train_step.py` compares a whole ShuffleNet with one of Conv2D. Inference and converted files use
    the single convolution.

    Input and output shape: (batch, height, width, channels).
    """

    def call(self, inputs, training=False):
        """Convolves (batch, height, width, channels)."""
        if not training or self.groups == 1:
            return super().call(inputs)
        groups = zip(_split(inputs, self.groups), _split(self.kernel, self.groups), strict=True)
        parts = [self.convolution_op(image, kernel) for image, kernel in groups]
        outputs = keras.ops.concatenate(parts, axis=-1)
        if self.bias is not None:
            outputs = keras.ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)


def _split(tensor, groups: int) -> list:
    """Splits the channels into equal parts."""
    return cast(list, keras.ops.split(tensor, groups, axis=-1))


@keras.saving.register_keras_serializable(package="fd_keras")
class ChannelShuffle(keras.layers.Layer):
    """Permutes the channels so that each group of the next convolution gets channels from every previous group.

    Channel g * n + i (group g of n channels) becomes channel i * groups + g (arXiv 1707.01083, section 3.1).
    Uses only 4-D tensors, since mobile delegates do not support 5-D ones.

    Args:
        groups: Number of groups; must divide the number of channels.

    Input and output shape: (batch, height, width, channels).
    """

    def __init__(self, groups: int, **kwargs):
        super().__init__(**kwargs)
        self.groups = groups

    def build(self, input_shape):
        """Checks that the groups divide the channels; raises ValueError otherwise."""
        if input_shape[-1] % self.groups:
            raise ValueError(f"{self.groups} groups do not divide the {input_shape[-1]} channels of {self.name!r}.")
        super().build(input_shape)

    def call(self, inputs):
        """Shuffles the channels of (batch, height, width, channels)."""
        _, height, width, channels = cast(tuple, keras.ops.shape(inputs))
        grouped = keras.ops.reshape(inputs, (-1, height * width, self.groups, channels // self.groups))
        return keras.ops.reshape(keras.ops.transpose(grouped, (0, 1, 3, 2)), (-1, height, width, channels))

    def compute_output_shape(self, input_shape):
        """The shape of the input."""
        return input_shape

    def get_config(self):
        """The layer's arguments."""
        return {**super().get_config(), "groups": self.groups}

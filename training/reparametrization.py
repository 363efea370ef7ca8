"""Reparametrization (arXiv 2101.03697): convolutions that are trained as parallel branches and saved as one.

Branches that are normalized one by one learn differently from the single convolution that they add up to, at no cost
afterwards.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fd_keras import layers
from fd_keras.spec import Arch


class BranchedConv(keras.layers.Layer):
    """A convolution with parallel branches: a 1x1 convolution, and the input itself where it has the output's shape.

    Each branch has a batch normalization; the network's own, which follows, sees the sum. In a depthwise convolution
    the 1x1 branch scales each channel, which its normalization does, too, so there it is the input.

    Args:
        convolution: Convolution without a bias, which pads no strided windows; gives the layer its name.
        norm: Makes a batch normalization without an offset, of a name.

    Input and output shape: those of the convolution.
    """

    def __init__(self, convolution: Any, norm: Callable[[str], keras.layers.Layer]):
        super().__init__(name=convolution.name)
        self.convolution, self._make_norm = convolution, norm
        self.depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
        self.norms: list[Any] = []

    def build(self, input_shape):
        """Makes the branches."""
        convolution, channels = self.convolution, input_shape[-1]
        convolution.build(input_shape)
        self.point: Any = None
        self.identity = self.depthwise
        if not self.depthwise:
            self.point = type(convolution)(
                convolution.filters, 1, padding="valid", groups=convolution.groups, use_bias=False,
                kernel_initializer=convolution.kernel_initializer.clone(), name="point", data_format="channels_last",
            )  # fmt: skip
            self.point.build(input_shape)
            self.identity = convolution.strides == (1, 1) and convolution.filters == channels
        outputs = channels if self.depthwise else convolution.filters
        names = ["whole_bn", *["point_bn"] * (self.point is not None), *["identity_bn"] * self.identity]
        self.norms = [self._make_norm(name) for name in names]
        for norm in self.norms:
            norm.build((*input_shape[:-1], outputs))
        super().build(input_shape)

    def call(self, inputs):
        """Adds up the branches for (batch, height, width, channels)."""
        middle = self._middle(inputs)
        branches = [self.convolution(inputs)]
        branches += [] if self.point is None else [self.point(middle)]
        branches += [middle] * self.identity
        return sum(norm(branch) for norm, branch in zip(self.norms, branches, strict=True))

    def _middle(self, inputs) -> Any:
        """The pixels in the middle of the windows; sizes may be unknown here, see `TrainingRecipe.progressive_size`."""
        edge = self.convolution.kernel_size[0] // 2 if self.convolution.padding == "valid" else 0
        pixels = slice(edge, -edge or None, self.convolution.strides[0])
        return inputs[:, pixels, pixels]

    def compute_output_shape(self, input_shape):
        """The shape of the convolution's output."""
        return self.convolution.compute_output_shape(input_shape)

    @property
    def kernel(self) -> Any:
        """Kernel of the single convolution that the branches are at inference, as a tensor."""
        return self.folded(ops.convert_to_tensor)[0]

    def folded(self, value: Callable[[keras.Variable], Any]) -> tuple[Any, Any]:
        """The single convolution that the branches are at inference.

        Args:
            value: Returns the values of a variable.

        Returns:
            Its kernel, and what it has to add to each output channel.
        """
        kernels = [value(self.convolution.kernel)]
        middle = np.zeros((*self.convolution.kernel_size, 1, 1), "float32")
        middle[middle.shape[0] // 2, middle.shape[1] // 2] = 1
        kernels += [] if self.point is None else [value(self.point.kernel) * middle]
        kernels += [_identity(self.convolution.kernel.shape, self.depthwise) * middle] * self.identity
        kernel, offset = 0, 0
        for part, norm in zip(kernels, self.norms, strict=True):
            scale = value(norm.gamma) * (value(norm.moving_variance) + norm.epsilon) ** -0.5
            kernel += part * (scale[:, None] if self.depthwise else scale)
            offset -= scale * value(norm.moving_mean)
        return kernel, offset


def _identity(shape: Sequence[int], depthwise: bool) -> np.ndarray:
    """The 1x1 kernel that returns its input, for a kernel of this shape."""
    *_, inputs, outputs = shape
    if depthwise:
        return np.ones((1, 1, inputs, 1), "float32")
    return np.eye(inputs, dtype="float32")[np.arange(outputs) % inputs].T[None, None]


class BranchedLayers:
    """Layer namespace for `builder.build` whose convolutions have branches; all else is `fd_keras.layers`'.

    Args:
        arch: Table of the network, for the constants of its batch normalizations.
    """

    def __init__(self, arch: Arch):
        self._arch = arch

    def __getattr__(self, kind: str) -> Any:
        made = getattr(layers, kind)
        if not kind.endswith("Conv2D"):
            return made
        return lambda *arguments, **settings: BranchedConv(made(*arguments, **settings), self._norm)

    def _norm(self, name: str) -> keras.layers.Layer:
        return layers.BatchNormalization(
            epsilon=self._arch.bn_epsilon, momentum=self._arch.bn_momentum, center=False, name=name
        )


def fold(net: keras.Model, values: Sequence[np.ndarray], plain: keras.Model) -> None:
    """Gives a plain network the weights with which it computes what one with branches does at inference.

    Args:
        net: Network with branches.
        values: Arrays to take for its weights, in their order.
        plain: Network without branches, whose layers have the same names.
    """
    arrays = {id(weight): array.astype("float64") for weight, array in zip(net.weights, values, strict=True)}
    offsets: dict[str, np.ndarray] = {}
    for layer in net.layers:
        if isinstance(layer, BranchedConv):
            kernel, offsets[f"{layer.name}_bn"] = layer.folded(lambda variable: arrays[id(variable)])
            plain.get_layer(layer.name).set_weights([kernel])
        elif layer.weights:
            of = {weight.name: arrays[id(weight)] for weight in layer.weights}
            if layer.name in offsets:
                of["moving_mean"] = of["moving_mean"] - offsets[layer.name]
            plain.get_layer(layer.name).set_weights([of[weight.name] for weight in layer.weights])

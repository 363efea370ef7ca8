"""Reparametrization (arXiv 2101.03697): trains convolutions as parallel branches and saves each as a single one.

Separately normalized branches learn differently from the single convolution that they add up to, without any cost at
inference.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fd_keras import layers
from fd_keras.spec import Arch


class BranchedConv(keras.layers.Layer):
    """A convolution with parallel branches: a 1x1 convolution, and the identity where input and output shape agree.

    Each branch has a batch normalization; their sum goes to the network's own, which follows. In a depthwise
    convolution, a 1x1 branch would only scale each channel, as its normalization already does, so the identity replaces
    it.

    Input and output have the shapes of the convolution.

    Args:
        convolution: Convolution without a bias and without padding where it has strides; its name becomes the layer's.
        norm: Creates a batch normalization without an offset, from a name.
    """

    def __init__(self, convolution: Any, norm: Callable[[str], keras.layers.Layer]):
        super().__init__(name=convolution.name)
        self.convolution, self._make_norm = convolution, norm
        self.depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
        self.norms: list[Any] = []

    def build(self, input_shape):
        """Creates the branches."""
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
        """Computes the sum of the branches for inputs of shape (batch, height, width, channels)."""
        middle = self._middle(inputs)
        branches = [self.convolution(inputs)]
        branches += [] if self.point is None else [self.point(middle)]
        branches += [middle] * self.identity
        return sum(norm(branch) for norm, branch in zip(self.norms, branches, strict=True))

    def _middle(self, inputs) -> Any:
        """Selects the central pixels of the windows; sizes may be unknown, see `TrainingRecipe.progressive_size`."""
        edge = self.convolution.kernel_size[0] // 2 if self.convolution.padding == "valid" else 0
        pixels = slice(edge, -edge or None, self.convolution.strides[0])
        return inputs[:, pixels, pixels]

    def compute_output_shape(self, input_shape):
        """Returns the shape of the convolution's output."""
        return self.convolution.compute_output_shape(input_shape)

    @property
    def kernel(self) -> Any:
        """Kernel of the single convolution that is equal to the branches at inference, a tensor."""
        return self.folded(ops.convert_to_tensor)[0]

    def folded(self, value: Callable[[keras.Variable], Any]) -> tuple[Any, Any]:
        """Folds the branches into a single convolution that is equal to them at inference.

        Args:
            value: Returns the values of a variable.

        Returns:
            The kernel, and the offset of each output channel.
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
    """Returns the 1x1 kernel of the identity, for a convolution whose kernel has this shape."""
    *_, inputs, outputs = shape
    if depthwise:
        return np.ones((1, 1, inputs, 1), "float32")
    return np.eye(inputs, dtype="float32")[np.arange(outputs) % inputs].T[None, None]


class BranchedLayers:
    """Layers for `builder.build` whose convolutions have branches; all others come from `fd_keras.layers`.

    Args:
        arch: Table of the network, for epsilon and momentum of the batch normalizations.
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
    """Sets the weights of a network without branches so that it is equal to one with branches at inference.

    Args:
        net: Network with branches.
        values: Arrays to use as its weights, in the order of `net.weights`.
        plain: Network without branches, with the same layer names.
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

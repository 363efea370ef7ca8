"""Cost of a network: multiply-accumulates (MACs) and parameters, by layer, by resolution and in total.

As in the paper, FLOPs are the MACs of convolutions and the classifier.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fd_keras.spec import Op, depths

if TYPE_CHECKING:
    import keras

CLASSIFIER = "classifier"


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """Cost of one layer.

    Attributes:
        name: Name of the layer.
        kind: `Op.kind`, or the name of a Keras class.
        size: (height, width) of the output.
        reduction: Factor by which the output is smaller than the image; "classifier" for dense layers.
        macs: Multiply-accumulates for one image.
        parameters: Trainable parameters, including those of the batch normalization.
    """

    name: str
    kind: str
    size: tuple[int | None, ...]
    reduction: int | str
    macs: int
    parameters: int


@dataclasses.dataclass(frozen=True)
class Profile:
    """Cost of a network.

    Attributes:
        rows: Costs of the layers, in order.
        uncounted: Names of layers with a kernel of unknown cost, which is not included in the sums.
    """

    rows: tuple[LayerCost, ...]
    uncounted: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(row.macs for row in self.rows)

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return sum(row.parameters for row in self.rows)

    @property
    def stages(self) -> dict[int | str, int]:
        """MACs by reduction (2, 4, ... 32, "classifier"), as in table 1 of the paper."""
        stages: dict[int | str, int] = {}
        for row in self.rows:
            stages[row.reduction] = stages.get(row.reduction, 0) + row.macs
        return {stage: macs for stage, macs in stages.items() if macs}

    @property
    def macs_before_last(self) -> int:
        """MACs spent before the last resolution is reached."""
        last = max(row.reduction for row in self.rows if row.reduction != CLASSIFIER)
        return sum(macs for stage, macs in self.stages.items() if stage not in (last, CLASSIFIER))


def profile_ops(ops: Sequence[Op]) -> Profile:
    """Cost of a lowered network, computed without building a model."""
    return Profile(
        tuple(
            LayerCost(
                op.name, op.kind, op.size, CLASSIFIER if op.kind == "dense" else op.reduction, op.macs, op.parameters
            )
            for op in ops
        )
    )


def layer_reaching(ops: Sequence[Op], reduction: int) -> int:
    """Depth of the first layer whose output is `reduction` times smaller than the image (layers count from 1)."""
    first = next(op for op in ops if op.reduction == reduction and op.is_layer)
    return depths(ops)[first.name]


def profile(model: "keras.Model") -> Profile:
    """Cost of a built Keras model, from the shapes of its kernels and outputs.

    Counts the MACs of Conv1D/2D/3D, depthwise, separable, transposed and dense layers, in nested models too. The MACs
    of a shared layer count each time it runs, its parameters once. Of other layers only the parameters are counted;
    those with a kernel are listed in `Profile.uncounted`.

    Args:
        model: Built `keras.Model` with a fixed input size.

    Raises:
        ValueError: If the model has no fixed input size.
    """
    image = model.inputs[0].shape[1:]
    if None in image:
        raise ValueError(f"The model takes images of shape {image}; to compute its cost, fix height and width.")
    rows, uncounted = [], []
    for layer, calls in _leaves(model):
        macs = _layer_macs(layer)
        if macs is None:
            uncounted.append(layer.name)
        rows.append(_layer_row(layer, calls * (macs or 0), image[0]))
    return Profile(tuple(rows), tuple(uncounted))


def _leaves(model, calls: int = 1):
    """Yields each layer that is not a model itself, and how often it runs."""
    nodes = [node for depth in getattr(model, "_nodes_by_depth", {}).values() for node in depth]
    for layer in model.layers:
        own = calls * max(1, sum(node.operation is layer for node in nodes))
        if hasattr(layer, "layers"):
            yield from _leaves(_sized(layer), own)
        elif layer.__class__.__name__ != "InputLayer":
            yield layer, own


def _sized(model):
    """Returns a nested model; if it takes images of any size, a copy for the size that it gets in the outer model."""
    if None not in model.inputs[0].shape[1:]:
        return model
    import keras

    given = model._inbound_nodes[-1].input_tensors[0].shape  # its own `input` is the one of any size
    return keras.models.clone_model(model, input_tensors=keras.Input(batch_shape=given))


def _layer_row(layer, macs: int, side: int) -> LayerCost:
    shape = layer.output.shape
    size = tuple(shape[1:3]) if len(shape) == 4 else (1, 1)
    reduction = math.ceil(side / size[0]) if len(shape) == 4 else CLASSIFIER
    parameters = sum(math.prod(weight.shape) for weight in layer.trainable_weights)
    return LayerCost(layer.name, layer.__class__.__name__, size, reduction, macs, parameters)


def _layer_macs(layer) -> int | None:
    """MACs of a Keras layer; None if it has a kernel of unknown cost."""
    kernels = [weight.shape for weight in layer.weights if len(weight.shape) >= 2]
    if not kernels:
        return 0
    kind = layer.__class__.__name__
    if "Transpose" in kind and "Conv" in kind:  # each input pixel is multiplied by the whole kernel
        return math.prod(kernels[0]) * math.prod(layer.input.shape[1:-1])
    if "Conv" in kind or kind == "Dense":
        return sum(math.prod(kernel) for kernel in kernels) * math.prod(layer.output.shape[1:-1])
    return None

"""The int8 recipe: turns a Keras model into a graph that loses almost no accuracy when the converter quantizes it."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fd_keras import imagenet
from fd_keras.tflite.format.network import FOUR_BIT_SHARE
from fd_keras.tflite.int8.equalize import LEVELS, equalize, fold_input, split_ranges
from fd_keras.tflite.int8.fold import fold
from fd_keras.tflite.int8.gptq import MOVING, Correction, correct, grid_ends, on_grid
from fd_keras.tflite.int8.graph import Conv, Dense, Graph, Node, Softmax, WeightedNode, logits, run, walk
from fd_keras.tflite.recipes import Int8Settings

_MOST_BYTES = 400e6  # maximum size of one layer's activations; a few such arrays exist at a time
_BATCH = 32


def prepare(
    model: keras.Model,
    images: np.ndarray,
    settings: Int8Settings,
    include_preprocessing: bool = True,
    *,
    four_bits: bool = False,
) -> Graph:
    """Runs the recipe's steps.

    Args:
        model: Classifier of layers that `fold.fold` supports.
        images: Calibration images, RGB 0..255 of shape (batch, height, width, 3).
        settings: Settings of the steps.
        include_preprocessing: Whether the model normalizes its input.
        four_bits: Whether to round the large kernels to 15 levels, for `format.int4`.

    Returns:
        A graph for the converter, with the same input and output as the model.

    Raises:
        UnsupportedModelError: If a layer of the model is not supported.
    """
    exact, images = equalized(model, images, settings, include_preprocessing, four_bits=four_bits)
    split = split_ranges(exact, images, count=settings.split)
    how = correction(settings)
    if four_bits:
        how = dataclasses.replace(how, four_bits=large_kernels(split))
    rounded = correct(exact, split, images, how)
    return clip_logits(rounded, images) if settings.clip_logits else rounded


def equalized(
    model: keras.Model,
    images: np.ndarray,
    settings: Int8Settings,
    include_preprocessing: bool,
    *,
    four_bits: bool = False,
) -> tuple[Graph, np.ndarray]:
    """Returns the folded and equalized network, and its input images, as many as fit in memory."""
    graph = fold(model)
    if include_preprocessing:
        graph = fold_input(graph, whole=True)
    images = as_taken(graph, images, include_preprocessing)
    power = settings.power if settings.equalize else None
    coarse = large_kernels(graph) if four_bits else ()
    return equalize(graph, images, power=power, clip=settings.clip, coarse=coarse), images


def correction(settings: Int8Settings) -> Correction:
    """Settings for `correct`."""
    return Correction(settings.fit, settings.compensate, settings.bias)


def large_kernels(graph: Graph) -> frozenset[str]:
    """Names of the dense and ungrouped pointwise layers that have at least `FOUR_BIT_SHARE` of all weights.

    Others save almost nothing, and in the first layers int4 costs the most accuracy.
    """
    sizes = {node.name: node.kernel.size for node in graph if isinstance(node, WeightedNode)}
    pointwise = {node.name for node in graph if isinstance(node, Conv) and node.kernel.shape[:2] == (1, 1)}
    grouped = {node.name for node in graph if isinstance(node, Conv) and node.groups > 1}
    dense = {node.name for node in graph if isinstance(node, Dense)}
    least = FOUR_BIT_SHARE * sum(sizes.values())
    return frozenset(name for name in (pointwise - grouped) | dense if sizes[name] >= least)


def ranges(graph: Graph, images: np.ndarray, *, rounding: bool) -> dict[str, tuple[float, float]]:
    """Ends of the grids of all rounded outputs, by node name.

    Args:
        graph: Prepared graph.
        images: Calibration images as the graph takes them.
        rounding: Whether to round the inputs of each node too.
    """
    found = {}

    def output(node: Node, inputs: list) -> Any:
        values = node.output(inputs)
        if not isinstance(node, MOVING):
            found[node.name] = grid_ends(node, values)
        return on_grid(node, values) if rounding else values

    for _ in walk(graph, images, output):
        pass
    return found


def as_taken(graph: Graph, images: np.ndarray, include_preprocessing: bool) -> np.ndarray:
    """Prepares raw images as input of the graph, as many as fit in memory."""
    images = images[: _affordable(graph)].astype("float32")
    return np.asarray(imagenet.preprocess_input(images, include_preprocessing))


def _affordable(graph: Graph) -> int:
    """Number of images for which the activations of the largest layer fit in `_MOST_BYTES`."""
    blank = np.zeros((1, *graph.input_shape), "float32")
    largest = max(values.shape.num_elements() for _, values in walk(graph, blank))
    return max(1, int(_MOST_BYTES / (4 * largest)))


def in_batches(graph: Graph, images: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the outputs of the graph, one batch at a time."""
    for start in range(0, len(images), _BATCH):
        yield run(graph, images[start : start + _BATCH]).numpy()


def clip_logits(graph: Graph, images: np.ndarray) -> Graph:
    """Clips the lowest logits, which hardly change the softmax, so that the others get finer steps.

    Shifting all inputs of a softmax does not change it, so a ReLU after a shift of the bias clips. The limit has the
    smallest divergence from the unclipped softmax over the images. A graph that does not end in a dense layer and a
    softmax is not changed.
    """
    match list(graph)[-2:]:
        case [Dense(relu=False) as dense, Softmax()]:
            pass
        case _:
            return graph
    values = np.concatenate(list(in_batches(logits(graph), images)))
    floors = np.linspace(values.min(), np.median(values.max(axis=1)), 48)[:-1]
    floor = min(floors, key=lambda floor: divergence(values, _quantized(values, floor)))
    return graph.updated({dense.name: dense.replace(bias=(dense.bias - floor).astype("float32"), relu=True)})


def _quantized(logits: np.ndarray, floor: float) -> np.ndarray:
    step = (logits.max() - floor) / LEVELS
    return np.round(np.maximum(logits - floor, 0) / step) * step


def divergence(logits: np.ndarray, others: np.ndarray) -> float:
    """Mean Kullback-Leibler divergence of softmax(others) from softmax(logits)."""
    ours, theirs = (tf.nn.log_softmax(values).numpy() for values in (logits, others))
    return float(np.mean(np.sum(np.exp(ours) * (ours - theirs), axis=-1)))

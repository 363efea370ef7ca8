"""Rewrites a network to the ops that LiteRT runs fastest.

The rewrites do not add arithmetic, so they should not cost time on other processors. `benchmarks.forms` times each one.
"""

import dataclasses

import numpy as np

from fd_keras.tflite.int8.graph import AveragePool, Conv, DepthwiseConv, Graph, Node, Pad, Pool, Shuffle


def arrange(graph: Graph) -> Graph:
    """Applies all rewrites of this module; the outputs do not change."""
    return with_framed_pools(with_depthwise_pooling(without_free_shuffles(graph)))


def without_free_shuffles(graph: Graph) -> Graph:
    """Removes shuffles after ungrouped convolutions, by reordering the output channels of the convolution.

    A shuffle after a grouped convolution has to stay, since the channels of a group are adjacent in the output.
    """
    for node in graph:
        if isinstance(node, Shuffle) and (conv := _reorderable(graph, node.inputs[0])):
            shuffled = conv.replace(kernel=conv.kernel[..., node.order], bias=conv.bias[node.order])
            graph = _without(graph.updated({conv.name: shuffled}), node)
    return graph


def _reorderable(graph: Graph, name: str) -> Conv | None:
    """The convolution with this name; None if its channels cannot be reordered."""
    node = graph.nodes.get(name)
    alone = len(graph.consumers(name)) == 1
    return node if isinstance(node, Conv) and node.groups == 1 and alone else None


def _without(graph: Graph, gone: Node) -> Graph:
    """Removes a node, and connects its consumers to its input."""
    nodes = {
        name: node.replace(inputs=tuple(gone.inputs[0] if source == gone.name else source for source in node.inputs))
        for name, node in graph.nodes.items()
        if name != gone.name
    }
    return dataclasses.replace(graph, nodes=nodes)


def with_depthwise_pooling(graph: Graph) -> Graph:
    """Replaces average pooling with depthwise convolutions, which XNNPACK also supports in int8, padding included."""
    pools = [node for node in graph if isinstance(node, AveragePool) and node.padding == "valid"]
    return graph.updated({node.name: _as_depthwise(node) for node in pools})


def _as_depthwise(pool: AveragePool) -> DepthwiseConv:
    kernel = np.full((pool.window, pool.window, pool.channels, 1), 1 / pool.window**2, "float32")
    bias = np.zeros(pool.channels, "float32")
    return DepthwiseConv(pool.name, pool.inputs, pool.channels, kernel, bias, pool.stride, pool.padding)


def with_framed_pools(graph: Graph) -> Graph:
    """Replaces each padding that the converter cannot merge into a convolution with a frame, see `Pad.value`."""
    pads = [node for node in graph if isinstance(node, Pad) and np.ndim(node.value) == 0]
    pads = [pad for pad in pads if all(isinstance(node, Pool) for node in graph.consumers(pad.name))]
    return graph.updated({pad.name: pad.replace(value=np.full(pad.channels, pad.value, "float32")) for pad in pads})

"""The same network in the ops that LiteRT runs fastest.

Nothing here adds arithmetic, so that what is gained on one processor is not lost on another. `benchmarks.forms` times
each form.
"""

import dataclasses

import numpy as np

from fd_keras.tflite.int8.graph import AveragePool, Conv, DepthwiseConv, Graph, Node, Pad, Pool, Shuffle


def arrange(graph: Graph) -> Graph:
    """A graph of the same outputs: `without_free_shuffles`, `with_depthwise_pooling` and `with_framed_pools`."""
    return with_framed_pools(with_depthwise_pooling(without_free_shuffles(graph)))


def without_free_shuffles(graph: Graph) -> Graph:
    """Leaves out each shuffle that follows an ungrouped convolution, which can give its channels in that order.

    After a grouped convolution the shuffle has to stay: its groups are neighbours in the output.
    """
    for node in graph:
        if isinstance(node, Shuffle) and (conv := _reorderable(graph, node.inputs[0])):
            shuffled = conv.replace(kernel=conv.kernel[..., node.order], bias=conv.bias[node.order])
            graph = _without(graph.updated({conv.name: shuffled}), node)
    return graph


def _reorderable(graph: Graph, name: str) -> Conv | None:
    """The convolution of that name, if the order of its channels matters to one node only."""
    node = graph.nodes.get(name)
    alone = len(graph.consumers(name)) == 1
    return node if isinstance(node, Conv) and node.groups == 1 and alone else None


def _without(graph: Graph, gone: Node) -> Graph:
    """The graph in which what takes `gone` takes its input."""
    nodes = {
        name: node.replace(inputs=tuple(gone.inputs[0] if source == gone.name else source for source in node.inputs))
        for name, node in graph.nodes.items()
        if name != gone.name
    }
    return dataclasses.replace(graph, nodes=nodes)


def with_depthwise_pooling(graph: Graph) -> Graph:
    """Writes average pooling as a depthwise convolution, which XNNPACK also takes in int8 and pads by itself."""
    pools = [node for node in graph if isinstance(node, AveragePool) and node.padding == "valid"]
    return graph.updated({node.name: _as_depthwise(node) for node in pools})


def _as_depthwise(pool: AveragePool) -> DepthwiseConv:
    kernel = np.full((pool.window, pool.window, pool.channels, 1), 1 / pool.window**2, "float32")
    bias = np.zeros(pool.channels, "float32")
    return DepthwiseConv(pool.name, pool.inputs, pool.channels, kernel, bias, pool.stride, pool.padding)


def with_framed_pools(graph: Graph) -> Graph:
    """Writes each padding that is for no convolution, which would take it up, as a frame: see `Pad.value`."""
    pads = [node for node in graph if isinstance(node, Pad) and np.ndim(node.value) == 0]
    pads = [pad for pad in pads if all(isinstance(node, Pool) for node in graph.consumers(pad.name))]
    return graph.updated({pad.name: pad.replace(value=np.full(pad.channels, pad.value, "float32")) for pad in pads})

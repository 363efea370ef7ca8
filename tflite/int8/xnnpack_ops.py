"""The same network in the ops that LiteRT runs fastest.

Nothing here adds arithmetic, so that what is gained on one processor is not lost on another. What each form brings is
measured by `benchmarks.forms`.
"""

import dataclasses

import numpy as np

from fd_keras.tflite.int8.graph import Graph, Node


def arrange(graph: Graph) -> Graph:
    """A graph of the same outputs: `without_free_shuffles`, `with_depthwise_pooling` and `with_framed_pools`."""
    return with_framed_pools(with_depthwise_pooling(without_free_shuffles(graph)))


def without_free_shuffles(graph: Graph) -> Graph:
    """Leaves out each shuffle that follows an ungrouped convolution, which can give its channels in that order.

    After a grouped convolution the shuffle has to stay: its groups are neighbours in the output.
    """
    for node in graph:
        before = graph.nodes.get(node.inputs[0]) if node.kind == "shuffle" else None
        if before is not None and _reorderable(graph, before):
            order = np.arange(node.channels).reshape(node.groups, -1).T.ravel()
            shuffled = before.replace(kernel=before.kernel[..., order], bias=before.bias[order])
            graph = _without(graph.updated({before.name: shuffled}), node)
    return graph


def _reorderable(graph: Graph, node: Node) -> bool:
    return node.kind == "conv" and node.groups == 1 and len(graph.consumers(node.name)) == 1


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
    return graph.updated(
        {node.name: _as_depthwise(node) for node in graph if node.kind == "avg_pool" and node.padding == "valid"}
    )


def _as_depthwise(node: Node) -> Node:
    kernel = np.full((node.window, node.window, node.channels, 1), 1 / node.window**2, "float32")
    return node.replace(kind="depthwise", kernel=kernel, bias=np.zeros(node.channels, "float32"))


def with_framed_pools(graph: Graph) -> Graph:
    """Writes each padding that is for no convolution, which would take it up, as a frame: see `Node.pad_value`."""
    return graph.updated(
        {
            node.name: node.replace(pad_value=np.full(node.channels, node.pad_value, "float32"))
            for node in graph
            if node.kind == "pad" and np.ndim(node.pad_value) == 0 and _pools(graph.consumers(node.name))
        }
    )


def _pools(consumers: list[Node]) -> bool:
    return all(node.kind in ("max_pool", "avg_pool") for node in consumers)

"""Measures the latency of the networks in LiteRT, onnxruntime and ncnn on this machine, in float32 with one thread.

    pip install -e ".[tflite,runtimes]"
    python -m benchmarks.runtimes

Each network is exported from the folded graph, without the normalization, to the format of each runtime. All runtimes
must give Keras's scores for random noise before they are measured. Weights are random. Figures are median and quartiles
of the ratios within each round.
"""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import ncnn  # pyright: ignore[reportMissingImports]  (an extra)
import numpy as np
import onnx  # pyright: ignore[reportMissingImports]  (an extra)
import onnxruntime  # pyright: ignore[reportMissingImports]  (an extra)
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper  # pyright: ignore[reportMissingImports]  (an extra)

from benchmarks.forms import build_parser, parse_networks, print_families
from benchmarks.table4 import SIZE
from benchmarks.timing import interleaved, ratio
from fd_keras.applications import build_by_name
from fd_keras.litert import quiet
from fd_keras.tflite.export import convert, save_graph
from fd_keras.tflite.int8.fold import fold
from fd_keras.tflite.int8.graph import (
    Add,
    AveragePool,
    Concat,
    Conv,
    Dense,
    DepthwiseConv,
    GlobalAveragePool,
    Graph,
    Input,
    MaxPool,
    Node,
    Pad,
    Pool,
    Shuffle,
    Softmax,
    WeightedNode,
    walk,
)
from fd_keras.tflite.int8.xnnpack_ops import arrange
from fd_keras.tflite.recipes import RECIPES

Run = Callable[[], np.ndarray]
TOLERANCE = 1e-5  # of a probability; larger than the effect of another order of summation


# --- LiteRT ------------------------------------------------------------------------------------------------


def litert(graph: Graph, image: np.ndarray, folder: Path) -> Run:
    """Loads the network in LiteRT."""
    save_graph(arrange(graph), str(folder / "saved"))
    with quiet():
        interpreter = Interpreter(model_content=convert(str(folder / "saved"), RECIPES["float32"]), num_threads=1)
        interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    output = interpreter.get_output_details()[0]["index"]

    def run() -> np.ndarray:
        interpreter.invoke()
        return interpreter.get_tensor(output)[0]

    return run


# --- onnxruntime -------------------------------------------------------------------------------------------


def onnx_runtime(graph: Graph, image: np.ndarray, folder: Path) -> Run:
    """Loads the network in onnxruntime, which fuses padding and ReLU into convolutions."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_model(graph).SerializeToString(), options, ["CPUExecutionProvider"])
    feed = {_input(graph).name: _channels_first(image)[None]}
    return lambda: session.run(None, feed)[0][0]


def onnx_model(graph: Graph) -> onnx.ModelProto:
    """A folded graph as ONNX ops, channels first."""
    nodes, constants = [], []
    shapes = _shapes(graph)
    for node in list(graph)[1:]:
        source = node.inputs[0]
        for number, (op, inputs, arrays, attributes) in enumerate(_onnx_ops(node, shapes[node.name])):
            names = [f"{node.name}/{number}/{index}" for index in range(len(arrays))]
            constants += [numpy_helper.from_array(array, name) for array, name in zip(arrays, names, strict=True)]
            output = f"{node.name}/{number}"
            nodes.append(helper.make_node(op, [*(inputs or [source]), *names], [output], **attributes))
            source = output
        nodes.append(helper.make_node("Relu" if node.relu else "Identity", [source], [node.name]))
    image, scores = (
        helper.make_tensor_value_info(node.name, TensorProto.FLOAT, shapes[node.name])
        for node in (_input(graph), graph.output)
    )
    onnx_graph = helper.make_graph(nodes, "network", [image], [scores], constants)
    return helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


OnnxOp = tuple[str, list[str], list[np.ndarray], dict[str, Any]]  # name, inputs if several, constants, attributes


def _onnx_ops(node: Node, shape: tuple[int, ...]) -> list[OnnxOp]:
    """The chain of ops for a node."""
    match node:
        case Conv() | DepthwiseConv():
            kernel, groups = _kernel(node)
            attributes = {"group": groups, "strides": [node.stride] * 2, "auto_pad": _AUTO_PAD[node.padding]}
            return [("Conv", [], [kernel, node.bias], attributes)]
        case Dense():
            return [("Gemm", [], [node.kernel, node.bias], {})]
        case Pad():
            (top, bottom), (left, right) = node.widths
            widths = np.array([0, 0, top, left, 0, 0, bottom, right], "int64")
            return [("Pad", [], [widths, np.array(node.value, "float32")], {})]
        case Pool():
            window = {"kernel_shape": [node.window] * 2, "strides": [node.stride] * 2}
            return [("MaxPool" if isinstance(node, MaxPool) else "AveragePool", [], [], window)]
        case GlobalAveragePool():
            return [("GlobalAveragePool", [], [], {}), ("Flatten", [], [], {})]
        case Shuffle():
            grouped = np.array([1, node.groups, -1, *shape[2:]], "int64")
            return [
                ("Reshape", [], [grouped], {}),
                ("Transpose", [], [], {"perm": [0, 2, 1, 3, 4]}),
                ("Reshape", [], [np.array(shape, "int64")], {}),
            ]
        case Add():
            return [("Add", list(node.inputs), [], {})]
        case Concat():
            return [("Concat", list(node.inputs), [], {"axis": 1})]
        case Softmax():
            return [("Softmax", [], [], {"axis": 1})]
    raise ValueError(f"no ONNX op for {node}")


_AUTO_PAD = {"same": "SAME_UPPER", "valid": "VALID"}


def _kernel(node: Conv | DepthwiseConv) -> tuple[np.ndarray, int]:
    """The kernel of a convolution, output channels first, and the number of groups."""
    kernel = node.kernel.transpose(3, 2, 0, 1)
    if isinstance(node, Conv):
        return np.ascontiguousarray(kernel), node.groups
    return np.ascontiguousarray(kernel.reshape(node.channels, 1, *node.kernel.shape[:2])), node.kernel.shape[2]


def _input(graph: Graph) -> Node:
    return next(iter(graph))


def _channels_first(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[0].transpose(2, 0, 1))


def _shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The shape of each node's output, channels first."""
    found = {}
    for node, values in walk(graph, np.zeros((1, *graph.input_shape), "float32")):
        batch, *sides, channels = values.shape
        found[node.name] = (batch, channels, *sides)
    return found


# --- ncnn --------------------------------------------------------------------------------------------------


def ncnn_net(graph: Graph, image: np.ndarray, folder: Path) -> Run:
    """Loads the network in ncnn."""
    param, weights = folder / "net.param", folder / "net.bin"
    param.write_text(ncnn_param(graph))
    weights.write_bytes(b"".join(_ncnn_weights(node) for node in graph))
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(str(param)) or net.load_model(str(weights)):
        raise ValueError("ncnn cannot load the network.")
    pixels = _channels_first(image)
    mat = ncnn.Mat(pixels)

    return functools.partial(_run_ncnn, net, mat, pixels, _input(graph).name, graph.output.name)


def _run_ncnn(net: Any, mat: Any, pixels: np.ndarray, image: str, output: str) -> np.ndarray:
    """The output of the net. `pixels` is an argument to keep it alive, since `mat` only points to it."""
    extractor = net.create_extractor()
    extractor.input(image, mat)
    return np.array(extractor.extract(output)[1])


def ncnn_param(graph: Graph) -> str:
    """A folded graph as ncnn's text file, one layer per line. Outputs with several consumers get a Split layer."""
    lines, blobs, copies = [], 0, {}
    for node in graph:
        kind, words = _ncnn_layer(node, graph)
        inputs = [copies[name].pop() for name in node.inputs]
        if node.relu and not isinstance(node, WeightedNode):  # weighted layers include the ReLU
            lines.append([kind, f"{node.name}/before", len(inputs), 1, *inputs, f"{node.name}/before", *words])
            kind, inputs, words, blobs = "ReLU", [f"{node.name}/before"], [], blobs + 1
        lines.append([kind, node.name, len(inputs), 1, *inputs, node.name, *words])
        consumers = len(graph.consumers(node.name))
        copies[node.name] = [node.name] if consumers < 2 else [f"{node.name}/{number}" for number in range(consumers)]
        blobs += 1
        if consumers > 1:
            lines.append(["Split", f"{node.name}/split", 1, consumers, node.name, *copies[node.name]])
            blobs += consumers
    text = "\n".join(" ".join(map(str, line)) for line in lines)
    return f"7767517\n{len(lines)} {blobs}\n{text}\n"


def _ncnn_layer(node: Node, graph: Graph) -> tuple[str, list[str]]:
    """Type and parameters of the layer for a node."""
    match node:
        case Input():
            height, width, channels = graph.input_shape
            return "Input", [f"0={width}", f"1={height}", f"2={channels}"]
        case Conv() | DepthwiseConv():
            kernel, groups = _kernel(node)
            pad = -233 if node.padding == "same" else 0  # ncnn's code for TensorFlow's padding
            words = [f"0={node.channels}", f"1={kernel.shape[2]}", f"3={node.stride}", f"4={pad}", "5=1"]
            words += [f"6={kernel.size}", f"9={int(node.relu)}"]
            return ("Convolution", words) if groups == 1 else ("ConvolutionDepthWise", [*words, f"7={groups}"])
        case Dense():
            return "InnerProduct", [f"0={node.channels}", "1=1", f"2={node.kernel.size}", f"9={int(node.relu)}"]
        case Pad():
            (top, bottom), (left, right) = node.widths
            return "Padding", [f"0={top}", f"1={bottom}", f"2={left}", f"3={right}", f"5={node.value}"]
        case Pool():
            average = isinstance(node, AveragePool)
            return "Pooling", [f"0={int(average)}", f"1={node.window}", f"2={node.stride}", "5=1"]
        case GlobalAveragePool():
            return "Pooling", ["0=1", "4=1"]
        case Shuffle():
            return "ShuffleChannel", [f"0={node.groups}"]
        case Add():
            return "BinaryOp", ["0=0"]
        case Concat():
            return "Concat", ["0=0"]
        case Softmax():
            return "Softmax", ["0=0", "1=1"]
    raise ValueError(f"no ncnn layer for {node}")


def _ncnn_weights(node: Node) -> bytes:
    """A node's part of the weights file. Four zero bytes mark a float32 kernel."""
    if not isinstance(node, WeightedNode):
        return b""
    kernel = _kernel(node)[0] if isinstance(node, Conv | DepthwiseConv) else node.kernel.T
    return bytes(4) + np.ascontiguousarray(kernel, "float32").tobytes() + node.bias.astype("float32").tobytes()


# --- comparison --------------------------------------------------------------------------------------------

RUNTIMES = {"LiteRT": litert, "onnxruntime": onnx_runtime, "ncnn": ncnn_net}


def prepare(arch: str, alpha: float, folder: Path) -> dict[str, Run]:
    """Loads a network in each runtime.

    Raises:
        ValueError: If the scores of a runtime differ from Keras's.
    """
    keras.utils.clear_session()
    model = build_by_name(arch, alpha=alpha, input_shape=(SIZE, SIZE, 3), weights=None, include_preprocessing=False)
    graph = fold(model)
    image = np.random.default_rng(0).normal(size=(1, SIZE, SIZE, 3)).astype("float32")
    expected = np.asarray(model(image, training=False))[0]
    runs = {}
    for name, load in RUNTIMES.items():
        (folder / name).mkdir(parents=True)
        runs[name] = load(graph, image, folder / name)
        difference = float(np.abs(runs[name]() - expected).max())
        if not difference < TOLERANCE:
            raise ValueError(f"{arch} {alpha:g}x: scores in {name} differ from Keras's by {difference:.2g}.")
    return runs


def main() -> None:
    """Exports, checks and measures the networks, and prints the tables."""
    args = build_parser("Measures the latency of the networks in LiteRT, onnxruntime and ncnn.").parse_args()
    names, runs = parse_networks(args.networks), {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (arch, alpha) in enumerate(names, 1):
            print(f"{number} of {len(names)}: {arch} {alpha:g}x", flush=True)
            prepared = prepare(arch, alpha, Path(folder) / f"{arch}_{alpha}")
            runs |= {(arch, alpha, runtime): run for runtime, run in prepared.items()}
        times = interleaved(runs, rounds=args.rounds)
    print_runtimes(times, names)
    print_families(times, names, {name: (name,) for name in RUNTIMES})


def print_runtimes(times: dict[tuple, list[float]], names: list[tuple[str, float]]) -> None:
    """Prints the latency in LiteRT, and that of the other runtimes relative to it."""
    base, *others = RUNTIMES
    print(f"\n{'network':22}{base + ', ms':>12}{''.join(f'{name:>22}' for name in others)}")
    for arch, alpha in names:
        ours = times[arch, alpha, base]
        cells = "".join(f"{ratio(times[arch, alpha, name], ours):>22}" for name in others)
        print(f"{f'{arch} {alpha:g}x':22}{np.median(ours):>12.3f}{cells}")


if __name__ == "__main__":
    main()

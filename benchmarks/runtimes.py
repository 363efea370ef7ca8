"""Times the same networks in other runtimes: onnxruntime and ncnn beside LiteRT, float32, one thread, on this machine.

Each network is written from the folded graph, without the normalization, in each runtime's own format; all must give
the same scores on an image of noise before they are timed. Weights are random. Figures are ratios of times within one
round, as median and quartiles over the rounds.

    pip install -e ".[tflite,runtimes]"
    python -m benchmarks.runtimes
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

from benchmarks.forms import chosen, parser_of_rounds, print_families
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
FAR = 1e-5  # more than the order of sums can do to a probability


# --- LiteRT ------------------------------------------------------------------------------------------------


def litert(graph: Graph, image: np.ndarray, folder: Path) -> Run:
    """The network in LiteRT."""
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
    """The network in onnxruntime, which moves paddings and ReLUs into convolutions by itself."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_model(graph).SerializeToString(), options, ["CPUExecutionProvider"])
    feed = {_input(graph).name: _channels_first(image)[None]}
    return lambda: session.run(None, feed)[0][0]


def onnx_model(graph: Graph) -> onnx.ModelProto:
    """A folded graph in ONNX's ops, channels first."""
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
    made = helper.make_graph(nodes, "network", [image], [scores], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


OnnxOp = tuple[str, list[str], list[np.ndarray], dict[str, Any]]  # name, inputs if several, constants, attributes


def _onnx_ops(node: Node, shape: tuple[int, ...]) -> list[OnnxOp]:
    """The ops of a node, in a chain."""
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
            apart = np.array([1, node.groups, -1, *shape[2:]], "int64")
            return [
                ("Reshape", [], [apart], {}),
                ("Transpose", [], [], {"perm": [0, 2, 1, 3, 4]}),
                ("Reshape", [], [np.array(shape, "int64")], {}),
            ]
        case Add():
            return [("Add", list(node.inputs), [], {})]
        case Concat():
            return [("Concat", list(node.inputs), [], {"axis": 1})]
        case Softmax():
            return [("Softmax", [], [], {"axis": 1})]
    raise ValueError(f"no op of ONNX for {node}")


_AUTO_PAD = {"same": "SAME_UPPER", "valid": "VALID"}


def _kernel(node: Conv | DepthwiseConv) -> tuple[np.ndarray, int]:
    """The kernel of a convolution with the outputs first, and its groups."""
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
    """The network in ncnn."""
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
    """The output of the net; ncnn's `mat` only points to the pixels, which are kept alive by being an argument."""
    extractor = net.create_extractor()
    extractor.input(image, mat)
    return np.array(extractor.extract(output)[1])


def ncnn_param(graph: Graph) -> str:
    """A folded graph as ncnn's text file: a line a layer. What several layers take goes through a Split."""
    lines, blobs, shares = [], 0, {}
    for node in graph:
        kind, words = _ncnn_layer(node, graph)
        inputs = [shares[name].pop() for name in node.inputs]
        if node.relu and not isinstance(node, WeightedNode):  # which has the ReLU in itself
            lines.append([kind, f"{node.name}/before", len(inputs), 1, *inputs, f"{node.name}/before", *words])
            kind, inputs, words, blobs = "ReLU", [f"{node.name}/before"], [], blobs + 1
        lines.append([kind, node.name, len(inputs), 1, *inputs, node.name, *words])
        users = len(graph.consumers(node.name))
        shares[node.name] = [node.name] if users < 2 else [f"{node.name}/{number}" for number in range(users)]
        blobs += 1
        if users > 1:
            lines.append(["Split", f"{node.name}/split", 1, users, node.name, *shares[node.name]])
            blobs += users
    text = "\n".join(" ".join(map(str, line)) for line in lines)
    return f"7767517\n{len(lines)} {blobs}\n{text}\n"


def _ncnn_layer(node: Node, graph: Graph) -> tuple[str, list[str]]:
    """Type and parameters of a node's layer."""
    match node:
        case Input():
            height, width, channels = graph.input_shape
            return "Input", [f"0={width}", f"1={height}", f"2={channels}"]
        case Conv() | DepthwiseConv():
            kernel, groups = _kernel(node)
            pad = -233 if node.padding == "same" else 0  # its name for the padding of TensorFlow
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
    raise ValueError(f"no layer of ncnn for {node}")


def _ncnn_weights(node: Node) -> bytes:
    """A node's part of the weights file; four zero bytes mark a kernel of floats."""
    if not isinstance(node, WeightedNode):
        return b""
    kernel = _kernel(node)[0] if isinstance(node, Conv | DepthwiseConv) else node.kernel.T
    return bytes(4) + np.ascontiguousarray(kernel, "float32").tobytes() + node.bias.astype("float32").tobytes()


# --- beside each other -------------------------------------------------------------------------------------

RUNTIMES = {"LiteRT": litert, "onnxruntime": onnx_runtime, "ncnn": ncnn_net}


def prepare(arch: str, alpha: float, folder: Path) -> dict[str, Run]:
    """The network in each runtime; raises ValueError if they do not give the same scores."""
    keras.utils.clear_session()
    model = build_by_name(arch, alpha=alpha, input_shape=(SIZE, SIZE, 3), weights=None, include_preprocessing=False)
    graph = fold(model)
    image = np.random.default_rng(0).normal(size=(1, SIZE, SIZE, 3)).astype("float32")
    expected = np.asarray(model(image, training=False))[0]
    runs = {}
    for name, make in RUNTIMES.items():
        (folder / name).mkdir(parents=True)
        runs[name] = make(graph, image, folder / name)
        apart = float(np.abs(runs[name]() - expected).max())
        if not apart < FAR:
            raise ValueError(f"{arch} {alpha:g}x in {name} is {apart:.2g} off Keras's scores.")
    return runs


def main() -> None:
    """Writes, checks, times and prints."""
    args = parser_of_rounds("Times networks in onnxruntime and ncnn beside LiteRT.").parse_args()
    names, runs = chosen(args.networks), {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (arch, alpha) in enumerate(names, 1):
            print(f"{number} of {len(names)}: {arch} {alpha:g}x", flush=True)
            made = prepare(arch, alpha, Path(folder) / f"{arch}_{alpha}")
            runs |= {(arch, alpha, runtime): run for runtime, run in made.items()}
        times = interleaved(runs, rounds=args.rounds)
    print_runtimes(times, names)
    print_families(times, names, {name: (name,) for name in RUNTIMES})


def print_runtimes(times: dict[tuple, list[float]], names: list[tuple[str, float]]) -> None:
    """Prints how long each network takes in the other runtimes, by LiteRT."""
    base, *others = RUNTIMES
    print(f"\n{'network':22}{base + ', ms':>12}{''.join(f'{name:>22}' for name in others)}")
    for arch, alpha in names:
        ours = times[arch, alpha, base]
        cells = "".join(f"{ratio(times[arch, alpha, name], ours):>22}" for name in others)
        print(f"{f'{arch} {alpha:g}x':22}{np.median(ours):>12.3f}{cells}")


if __name__ == "__main__":
    main()

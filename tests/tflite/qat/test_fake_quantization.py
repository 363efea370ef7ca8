import ast
from pathlib import Path

import numpy as np
import pytest

from fd_keras.tflite.int8 import gptq
from fd_keras.tflite.int8.graph import Node, WeightedNode, run

ROOT = Path(__file__).parents[3]
every_network = pytest.mark.parametrize("name", ["fd_mobilenet", "fd_shufflenet"])


@every_network
def test_every_kernel_has_a_quantizer(twins, equalized, name):
    answer, weighted = twins["networks"][name], [node.name for node in equalized[name][0].weighted]
    assert answer["unquantized"] == []
    assert answer["unquantized in float"] == weighted
    assert list(answer["kernels"]) == weighted


@every_network
def test_kernels_are_rounded_like_in_the_converter(twins, equalized, name):
    nodes, kernels = equalized[name][0].weighted, twins["networks"][name]["kernels"].values()
    for node, rounded in zip(nodes, kernels, strict=True):
        exact, rounded = node.matrix, rounded.reshape(-1, node.channels)
        scale = np.abs(exact).max(axis=0) / 127
        steps = rounded / scale
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3, err_msg=node.name)
        assert np.abs(rounded - exact).max() <= 0.501 * scale.max(), node.name
        assert np.any(rounded != exact), node.name


@every_network
def test_outputs_are_rounded_as_in_the_integer_network(twins, equalized, batch, name):
    """Values between two integers may be rounded to either one, so the tolerance is relative to the rounding error."""
    graph, ranges = equalized[name]

    def integers(node: Node, inputs: list):
        if isinstance(node, WeightedNode):
            kernel = gptq.nearest(node.matrix.astype("float64")).reshape(node.kernel.shape)
            node = node.replace(kernel=kernel.astype("float32"))
        values = node.output(inputs)
        if node.name not in ranges:
            return values
        low, high = ranges[node.name]
        step = (high - low) / 255
        return np.clip(np.round(values / step), round(low / step), round(high / step)).astype("float32") * step

    expected = np.asarray(run(graph, batch, integers))
    float_scores, rounded = run(graph, batch).numpy(), twins["networks"][name]["rounded"]
    assert np.abs(rounded - expected).mean() < 0.3 * np.abs(float_scores - expected).mean()


@every_network
def test_weights_are_returned_by_name(twins, equalized, name):
    weighted = equalized[name][0].weighted
    assert list(twins["networks"][name]["again"]) == [node.name for node in weighted]
    for node, again in zip(weighted, twins["networks"][name]["again"].values(), strict=True):
        for array, other in ((node.kernel, again.kernel), (node.bias, again.bias)):
            np.testing.assert_allclose(other, array, rtol=1e-5, atol=1e-7, err_msg=node.name)


def test_the_training_process_imports_only_tf_keras(twins):
    assert twins["keras"] == "tf_keras"
    assert twins["imported"] == []


def test_one_module_imports_tensorflow_model_optimization():
    found = set()
    for path in (ROOT / "tflite").rglob("*.py"):
        imports = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Import)]
        if any(alias.name.startswith("tensorflow_model_opt") for node in imports for alias in node.names):
            found.add(path.name)
    assert found == {"fake_quantization.py"}

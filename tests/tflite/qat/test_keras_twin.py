import keras
import numpy as np
import pytest

from fd_keras.tflite.int8.fold import fold
from fd_keras.tflite.int8.graph import Dense, run
from fd_keras.tflite.qat import keras_twin

every_network = pytest.mark.parametrize("name", ["fd_mobilenet", "fd_shufflenet"])


@every_network
def test_twin_in_keras_3_computes_the_same(network, batch, name):
    graph = fold(network(name))
    model = keras_twin.build(graph, keras)
    np.testing.assert_allclose(model.predict_on_batch(batch), run(graph, batch).numpy(), rtol=0, atol=1e-5)


@every_network
def test_twin_in_tf_keras_computes_the_same(twins, equalized, batch, name):
    expected = run(equalized[name][0], batch).numpy()
    np.testing.assert_allclose(twins["networks"][name]["plain"], expected, rtol=0, atol=1e-5)


@every_network
def test_variables_are_the_node_s_kernel_and_bias(network, name):
    graph = fold(network(name))
    model = keras_twin.build(graph, keras)
    for node in graph.weighted:
        found = keras_twin.variables(model, node)
        np.testing.assert_array_equal(found["kernel"], node.kernel, err_msg=node.name)
        np.testing.assert_array_equal(found["bias"], node.bias, err_msg=node.name)


def test_a_node_of_another_shape_is_rejected(network):
    graph = fold(network("fd_mobilenet"))
    model = keras_twin.build(graph, keras)
    node = graph.nodes["predictions"]
    with pytest.raises(ValueError, match="'predictions' has no kernel that matches the node's"):
        keras_twin.variables(model, node.replace(kernel=node.kernel[1:]))


@pytest.mark.parametrize(("name", "expected"), [("a/b c", "a-b-c"), ("_a", "a"), ("-", "layer")])
def test_names_are_valid_in_keras_2_and_3(name, expected):
    assert keras_twin.layer_name(Dense(name, ("x",), 1, np.ones((1, 1)), np.zeros(1))) == expected

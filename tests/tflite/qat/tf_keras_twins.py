"""Builds tf_keras twins of graphs; conftest.py runs this in a separate process.

    python tf_keras_twins.py ASKED ANSWER

Both are files of `tflite.qat.training_job`. ASKED has graphs by name, with the ranges of their outputs and a batch of
images; ANSWER has the outputs of both twins for these images, and their kernels.
"""

import sys

import tensorflow as tf
import tf_keras

from fd_keras.tflite.int8.graph import DepthwiseConv
from fd_keras.tflite.qat import fake_quantization, keras_twin, training_job


def answer(graph, ranges, images) -> dict:
    plain, rounded = keras_twin.build(graph, tf_keras), fake_quantization.quantized(graph, ranges)
    layers = {node.name: rounded.get_layer(keras_twin.layer_name(node)).layer for node in graph.weighted}
    outputs = {"plain": plain(images).numpy(), "rounded": rounded(images).numpy()}
    kernels = {  # the tensors that the wrapper substituted for the variables when the model ran
        node.name: getattr(layer, "depthwise_kernel" if isinstance(node, DepthwiseConv) else "kernel").numpy()
        for node, layer in zip(graph.weighted, layers.values(), strict=True)
    }
    return {
        **outputs,
        "kernels": kernels,
        "unquantized": fake_quantization.unquantized(rounded, graph),
        "unquantized in float": fake_quantization.unquantized(plain, graph),
        "again": fake_quantization.weights(rounded, graph, ranges),
    }


if __name__ == "__main__":
    asked_path, answer_path = sys.argv[1:]
    answers = {name: answer(*arguments) for name, arguments in training_job.load(asked_path).items()}
    with_keras_3 = ("fd_keras.applications", "fd_keras.tflite.int8.fold")
    imported = [name for name in with_keras_3 if name in sys.modules]
    keras = tf.keras.Model.__module__.split(".")[0]
    training_job.save(answer_path, {"networks": answers, "keras": keras, "imported": imported})

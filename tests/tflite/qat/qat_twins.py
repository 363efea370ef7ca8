"""Builds twins of graphs where TensorFlow's Keras is tf_keras; run by test_qat.py as a process of its own.

python qat_twins.py ASKED ANSWER: both are files of `tflite.qat.training_job`. Asked are, by name, a graph, the ranges of its
outputs and a batch of images; answered is what both twins make of the images, and what was done to the kernels.
"""

import sys

import tensorflow as tf
import tf_keras

from fd_keras.tflite.int8.graph import WEIGHTED
from fd_keras.tflite.qat import fake_quantization, keras_twin, training_job


def answer(graph, ranges, images) -> dict:
    plain, rounded = keras_twin.build(graph, tf_keras), fake_quantization.quantized(graph, ranges)
    weighted = [node for node in graph if node.kind in WEIGHTED]
    layers = {node.name: rounded.get_layer(keras_twin.layer_name(node)).layer for node in weighted}
    outputs = {"plain": plain(images).numpy(), "rounded": rounded(images).numpy()}
    kernels = {  # what the wrapper put in the variables' place when the model ran
        node.name: getattr(layers[node.name], "depthwise_kernel" if node.kind == "depthwise" else "kernel").numpy()
        for node in weighted
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
    imported = [
        name for name in ("fd_keras", "fd_keras.tflite.int8.fold") if name in sys.modules
    ]  # they work with Keras 3
    keras = tf.keras.Model.__module__.split(".")[0]
    training_job.save(answer_path, {"networks": answers, "keras": keras, "imported": imported})

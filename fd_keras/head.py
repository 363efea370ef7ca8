"""Kinds of network outputs: classes, logits, scores or values; the kind decides how they are read and compared."""

import dataclasses
import os
from typing import Any

import keras

from fd_keras.tflite_file import kind_of, read_model

_PASSING = ("Dropout", "Flatten", "Identity", "Reshape")  # layers that do not change values
_COPYING = ("DEQUANTIZE", "QUANTIZE", "RESHAPE")
_ACTIVATIONS = {"softmax": "softmax", "log_softmax": "softmax", "sigmoid": "sigmoid", "hard_sigmoid": "sigmoid"}
_OPS = {"SOFTMAX": "softmax", "LOG_SOFTMAX": "softmax", "LOGISTIC": "sigmoid", "FULLY_CONNECTED": "dense"}


@dataclasses.dataclass(frozen=True)
class Head:
    """How the outputs of networks are compared.

    Attributes:
        name: Name of the head, a key of `HEADS`.
        text: Description of the comparison for the user.
        agrees: Meaning of agreement. "first": the same class is first; "threshold": each score is on the same side
            of 0.5; "": agreement is not defined.
        errs: Whether the error relative to the reference's spread decides, even if the reference predicts many classes.
        pooled: Whether that error is computed over all outputs together; otherwise the worst output counts.
    """

    name: str
    text: str
    agrees: str
    errs: bool
    pooled: bool


HEADS = {
    head.name: head
    for head in (
        Head("classes", "the first class", "first", errs=False, pooled=True),
        Head(
            "logits",
            "the first class and the error of the outputs; if they are not logits but values, pass --measure=values",
            "first",
            errs=True,
            pooled=True,
        ),
        Head(
            "scores",
            "each score against 0.5 and its error; the worst score counts",
            "threshold",
            errs=True,
            pooled=False,
        ),
        Head("values", "the error of each output; the worst counts", "", errs=True, pooled=False),
    )
}


def head_of(last: str, outputs: int) -> Head:
    """The head of a network, by its last operation ("softmax", "sigmoid", "dense" or "") and number of outputs."""
    if last == "sigmoid":
        return HEADS["scores"]
    if outputs > 1 and last in ("softmax", "dense"):
        return HEADS["classes" if last == "softmax" else "logits"]
    return HEADS["values"]


def keras_head(model: keras.Model) -> Head:
    """The head of a Keras model."""
    return head_of(_last_of(model.outputs[0]), model.output_shape[-1])


def tflite_head(path: str | os.PathLike) -> Head:
    """The head of a .tflite file; raises LiteRTError like `read_model`."""
    _, model = read_model(path)
    graph = model.subgraphs[0]
    index = graph.outputs[0]
    outputs = int(graph.tensors[index].shape[-1])
    for op in reversed(graph.operators):
        if index in op.outputs:
            kind = kind_of(model, op)
            if kind not in _COPYING:
                return head_of(_OPS.get(kind, ""), outputs)
            index = op.inputs[0]
    return head_of("", outputs)


def _last_of(tensor: Any) -> str:
    """The operation that computes a tensor of a Keras model, ignoring layers that only pass values on."""
    layer, index, _ = tensor._keras_history  # Keras has no public way to get from a tensor to its layer
    if isinstance(layer, keras.Model):
        return _last_of(layer.outputs[0])
    function = getattr(layer, "activation", None)
    name = _snake_case(getattr(function, "__name__", type(function or layer).__name__))
    if type(layer).__name__ in _PASSING or (isinstance(layer, keras.layers.Activation) and name == "linear"):
        return _last_of(layer._inbound_nodes[index].input_tensors[0])
    if name == "linear" and isinstance(layer, keras.layers.Dense):
        return "dense"
    return _ACTIVATIONS.get(name, "")


def _snake_case(name: str) -> str:
    """Converts LogSoftmax to log_softmax."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")

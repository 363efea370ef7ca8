"""Imports Google's MobileNet v1 from a float .tflite file.

The zoo's MobileNet has the same table but torch's padding. Google's batch normalizations are folded into the kernels,
whose norms then range from 0.01 to 46, which a single learning rate does not suit. So each kernel is scaled to the norm
of He initialization, about where training with a batch normalization leaves it, and the batch normalization multiplies
by the rest: the function is the same, but learns somewhat faster (docs/results/voc.md).
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence

import numpy as np

from fd_keras import zoo
from fd_keras.checkpoints import CheckpointError, Format, KeySource, State, Variable, Weights, mismatch, variables
from fd_keras.litert import read_weights
from fd_keras.spec import Op

ARCH = dataclasses.replace(zoo.get_arch("mobilenet"), padding="same", activation="relu6")
RESCALING = (1 / 127.5, -1.0)  # scale and offset from RGB 0..255 to the network's input
_LOGITS = ("Logits/Conv2d_1c_1x1/weights", "Logits/Conv2d_1c_1x1/Conv2D_bias")


def _read_tensors(path: str) -> State:
    """Reads the weights and biases of a file; drops the classifier's first class, background, which ImageNet lacks.

    Kernels are (cout, height, width, cin), depthwise ones (1, height, width, cin).
    """
    state = {name.split("MobilenetV1/")[-1]: array for name, array in read_weights(path).items()}
    if _LOGITS[0] in state and _LOGITS[1] in state:
        kernel, bias = (state.pop(name) for name in _LOGITS)
        state |= {"predictions/kernel": kernel[1:, 0, 0].T, "predictions/bias": bias[1:]}
    return state


def _naming(ops: Sequence[Op]) -> Iterator[tuple[Variable, KeySource]]:
    for variable in variables(ops):
        if variable.op.kind == "dense":
            yield variable, KeySource((f"predictions/{variable.weight}",))
            continue
        kernel, bias = _keys(variable.op)
        sources = {
            "kernel": KeySource((kernel,), lambda array: _in_keras_order(array) / _gains(array)),
            "gamma": KeySource((kernel,), lambda array: _gains(array).ravel()),
            "beta": KeySource((bias,)),
            "moving_mean": KeySource((bias,), np.zeros_like),
            "moving_variance": KeySource((bias,), lambda array: np.full_like(array, 1 - ARCH.bn_epsilon)),
        }
        yield variable, sources[variable.weight]


def _keys(op: Op) -> tuple[str, str]:
    """Names of a convolution's kernel and bias in the file."""
    if op.name == "conv1":
        return "Conv2d_0/weights", "Conv2d_0/Conv2D_bias"
    index = op.name.rpartition("_")[-1]  # conv_dw_3, conv_pw_3
    if op.kind == "depthwise":
        return f"Conv2d_{index}_depthwise/depthwise_weights", f"Conv2d_{index}_depthwise/depthwise_bias"
    return f"Conv2d_{index}_pointwise/weights", f"Conv2d_{index}_pointwise/Conv2D_bias"


def _in_keras_order(array: np.ndarray) -> np.ndarray:
    return array.transpose(1, 2, 3, 0)


def _gains(array: np.ndarray) -> np.ndarray:
    """Norm of each output channel's kernel divided by that of He initialization; 1 for a zero kernel."""
    kernel, depthwise = _in_keras_order(array), len(array) == 1
    norms = np.sqrt(np.square(kernel).sum(axis=(0, 1) if depthwise else (0, 1, 2)))
    return np.where(norms > 0, norms / np.sqrt(2, dtype="float32"), 1)


FORMAT = Format("float .tflite of Google's MobileNet v1", _read_tensors, _naming)


def read(path: str, ops: Sequence[Op]) -> Weights:
    """Reads a file for a network lowered from `ARCH`.

    Args:
        path: Path of the .tflite file.
        ops: Ops of the network; if they have no classifier, the file's classifier is ignored.

    Returns:
        The weights by layer name, complete and with the right shapes.

    Raises:
        CheckpointError: If the file does not exist, or has another network or another width.
        LiteRTError: If it is not a .tflite file.
        ImportError: If `ai-edge-litert` is not installed.
    """
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise CheckpointError(f"{path}: no such file.")
    state = FORMAT.read(path)
    problem = mismatch(state, FORMAT, ops)
    if problem:
        raise CheckpointError(f"{path}: {problem} Only Google's float MobileNet v1 of --alpha fits.")
    weights: Weights = {}
    for variable, source in FORMAT.naming(ops):
        weights.setdefault(variable.layer, []).append(source.take(state).astype("float32"))
    return weights


def width_of(path: str) -> float:
    """The width multiplier of the network in a file, from its first convolution.

    Raises:
        CheckpointError: If there is no such convolution.
    """
    kernel = FORMAT.read(path).get("Conv2d_0/weights")
    if kernel is None:
        raise CheckpointError(f"{path}: not Google's float MobileNet v1.")
    return len(kernel) / ARCH.stages[0].filters

"""Makes a Keras model of Google's MobileNet v1 float .tflite, to quantize a network with published weights.

    python -m benchmarks.google_mobilenet mobilenet_v1_0.25_224_1_default_1.tflite mobilenet.keras

It takes raw RGB 0..255 like the networks here, and has ImageNet's 1000 classes: the file's first, the background, goes.
"""

import argparse
import os
import sys

import keras
import numpy as np
from keras import layers

from fd_keras.litert import read_weights

STRIDES = {0: 2, 2: 2, 4: 2, 6: 2, 12: 2}  # of the first convolution, 0, and of the depthwise one of each block


def read_tensors(path: str) -> dict[str, np.ndarray]:
    """The weights and biases in a file, by name. Raises ValueError if LiteRT cannot read it."""
    return {name.split("MobilenetV1/")[-1]: array for name, array in read_weights(path).items()}


def build(tensors: dict[str, np.ndarray]) -> keras.Model:
    """The network; kernels in a file are (cout, h, w, cin), depthwise ones (1, h, w, cin)."""
    image = keras.Input((224, 224, 3))
    x = layers.Rescaling(1 / 127.5, -1)(image)
    x = _conv(x, tensors, "Conv2d_0", STRIDES[0])
    for block in range(1, 14):
        x = _depthwise(x, tensors, f"Conv2d_{block}_depthwise", STRIDES.get(block, 1))
        x = _conv(x, tensors, f"Conv2d_{block}_pointwise", 1)
    x = layers.GlobalAveragePooling2D()(x)
    head = layers.Dense(1000, "softmax", name="predictions")
    model = keras.Model(image, head(x))
    kernel, bias = tensors["Logits/Conv2d_1c_1x1/weights"], tensors["Logits/Conv2d_1c_1x1/Conv2D_bias"]
    head.set_weights([kernel[1:, 0, 0].T, bias[1:]])
    return model


def _conv(x, tensors, name: str, stride: int):
    kernel, bias = tensors[f"{name}/weights"], tensors[f"{name}/Conv2D_bias"]
    layer = layers.Conv2D(len(bias), kernel.shape[1:3], stride, "same", activation="relu6", name=name)
    x = layer(x)
    layer.set_weights([kernel.transpose(1, 2, 3, 0), bias])
    return x


def _depthwise(x, tensors, name: str, stride: int):
    kernel, bias = tensors[f"{name}/depthwise_weights"], tensors[f"{name}/depthwise_bias"]
    layer = layers.DepthwiseConv2D(kernel.shape[1:3], stride, "same", activation="relu6", name=name)
    x = layer(x)
    layer.set_weights([kernel[0][..., None], bias])
    return x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("tflite", help="Google's float file")
    parser.add_argument("keras", help="where to write the .keras model")
    args = parser.parse_args()
    try:
        model = build(read_tensors(args.tflite))
    except (ValueError, KeyError) as error:
        sys.exit(f"error: {args.tflite}: not a float MobileNet v1 of Google's ({error})")
    draft = f"{args.keras}.writing.keras"
    model.save(draft)
    os.replace(draft, args.keras)


if __name__ == "__main__":
    main()

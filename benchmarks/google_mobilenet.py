"""Converts Google's float MobileNet v1 .tflite to a Keras model, to measure quantization with published weights.

    python -m benchmarks.google_mobilenet mobilenet_v1_0.25_224_1_default_1.tflite mobilenet.keras

The model takes raw RGB (0 to 255) and has ImageNet's 1000 classes. The file's first class, background, is removed.
"""

import argparse
import os
import tempfile

import keras

from fd_keras import builder, google_mobilenet, imagenet, layers
from fd_keras.errors import run_and_exit
from fd_keras.spec import lower


def build(path: str) -> keras.Model:
    """The network in a .tflite file as a Keras model.

    Raises:
        ValueError: If it is not Google's float MobileNet v1.
    """
    size = (imagenet.SIZE, imagenet.SIZE)
    ops = lower(google_mobilenet.ARCH, google_mobilenet.width_of(path), size)
    weights = google_mobilenet.read(path, ops)
    image = keras.Input((*size, 3))
    x = layers.Rescaling(*google_mobilenet.RESCALING, name="preprocessing")(image)
    model = keras.Model(image, builder.build(google_mobilenet.ARCH, ops, x, include_preprocessing=False))
    for name, arrays in weights.items():
        model.get_layer(name).set_weights(arrays)
    return model


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        description="Converts Google's float MobileNet v1 .tflite to a Keras model.", allow_abbrev=False
    )
    result.add_argument("tflite", help="Google's float .tflite file")
    result.add_argument("keras", help=".keras file to write")
    return result


def main() -> None:
    """Writes the model atomically."""
    arguments = parser().parse_args()
    model = build(arguments.tflite)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(arguments.keras))) as folder:
        draft = os.path.join(folder, "model.keras")
        model.save(draft)
        os.replace(draft, arguments.keras)


if __name__ == "__main__":
    run_and_exit(main, "python -m benchmarks.google_mobilenet")

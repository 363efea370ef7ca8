"""Makes a Keras model of Google's MobileNet v1 float .tflite, to quantize a network with published weights.

    python -m benchmarks.google_mobilenet mobilenet_v1_0.25_224_1_default_1.tflite mobilenet.keras

It takes raw RGB 0..255 like the networks here, and has ImageNet's 1000 classes: the file's first, the background, goes.
"""

import argparse
import os
import tempfile

import keras

from fd_keras import builder, google_mobilenet, imagenet, layers
from fd_keras.errors import run_and_exit
from fd_keras.spec import lower


def build(path: str) -> keras.Model:
    """The network in a file.

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
    found = argparse.ArgumentParser(
        description="Makes a Keras model of Google's MobileNet v1 float .tflite.", allow_abbrev=False
    )
    found.add_argument("tflite", help="Google's float file")
    found.add_argument("keras", help="where to write the .keras model")
    return found


def main() -> None:
    """Writes the model, atomically."""
    arguments = parser().parse_args()
    model = build(arguments.tflite)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(arguments.keras))) as folder:
        draft = os.path.join(folder, "model.keras")
        model.save(draft)
        os.replace(draft, arguments.keras)


if __name__ == "__main__":
    run_and_exit(main, "python -m benchmarks.google_mobilenet")

"""The whole path in a few minutes: train, convert, verify, time.

Trains FD-MobileNet 0.25x on scikit-learn's handwritten digits (1,797 real scans of 8x8 pixels, enlarged), converts it
to float32 and int8 .tflite, compares both with the Keras model on the digits it has not seen, times them on this
machine, and classifies two photos if ImageNet weights are available.
"""

# ruff: noqa: E402  (TensorFlow's notes are hidden before anything imports it)
import os
import time
from collections.abc import Iterator
from typing import Any

from fd_keras import startup

startup.hide_tensorflow_notes()

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fd_keras
from fd_keras import imagenet
from fd_keras.android_bench.host_target import time_models
from fd_keras.tflite.export import write
from fd_keras.tflite.format.sidecar import saved_source
from fd_keras.tflite.recipes import Calibration, get_recipes
from fd_keras.tflite.verification.compare import compare, keras_classifier, tflite_classifier

OUTPUT = "demo_output"
ALPHA = 0.25
SIZE = 64  # the digits are enlarged eightfold
SECONDS = 120  # of training
BATCH = 64


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images, test images, training labels and test labels; images are uint8 RGB of `SIZE` pixels."""
    data: Any = load_digits()
    gray = (data.images * 255 / 16).round()
    resized: Any = keras.ops.image.resize(np.repeat(gray[..., None], 3, axis=-1), (SIZE, SIZE))
    images = np.asarray(keras.ops.convert_to_numpy(resized)).round().astype("uint8")
    parts: Any = train_test_split(images, data.target, test_size=0.25, random_state=0, stratify=data.target)
    return parts


class Clock(keras.callbacks.Callback):
    """Anneals the learning rate along a half cosine over `SECONDS`, and stops there."""

    def __init__(self, peak: float):
        super().__init__()
        self.peak = peak

    def on_train_begin(self, logs=None):
        """Starts the clock."""
        self.start = time.monotonic()

    def on_train_batch_begin(self, batch, logs=None):
        """Sets the learning rate, or stops."""
        model: Any = self.model
        done = min(1.0, (time.monotonic() - self.start) / SECONDS)
        model.optimizer.learning_rate.assign(self.peak * (1 + np.cos(np.pi * done)) / 2)
        model.stop_training = done >= 1

    def on_epoch_end(self, epoch, logs):
        """Prints a line every ten epochs."""
        left = max(0.0, SECONDS - (time.monotonic() - self.start))
        if epoch % 10 == 0 or not left:
            progress = f"loss {logs['loss']:.4f}  training top-1 {logs['accuracy']:.1%}  {left:3.0f} s left"
            print(f"  epoch {epoch + 1:3}  {progress}")


def train(images: np.ndarray, labels: np.ndarray) -> keras.Model:
    """Trains from random weights for `SECONDS`, with shifts of up to 6 pixels as augmentation."""
    silent: Any = 0  # Keras annotates `verbose` as str
    keras.utils.set_random_seed(0)
    model = fd_keras.FDMobileNet((SIZE, SIZE, 3), alpha=ALPHA, weights=None, classes=10, name="digits")
    shifted = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.RandomTranslation(0.1, 0.1), model])
    optimizer = keras.optimizers.SGD(0.0, momentum=0.9, nesterov=True)
    shifted.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    shifted.fit(images, labels, BATCH, epochs=100_000, callbacks=[Clock(peak=0.1)], verbose=silent)
    return model


def photos() -> None:
    """Classifies two of scikit-image's photos with ImageNet weights, or prints why it cannot."""
    try:
        model = fd_keras.FDMobileNet(alpha=ALPHA, weights="imagenet")
    except (OSError, ValueError) as error:
        print(f"  skipped: no ImageNet weights here ({str(error).split(' (')[0]})")
        return
    import skimage

    folder = os.path.join(os.path.dirname(skimage.__file__), "data")
    for name in ("coffee.png", "chelsea.png"):
        image = imagenet.load_image(os.path.join(folder, name)).astype("float32")
        _, what, probability = fd_keras.decode_predictions(model(image[None], training=False), top=1)[0][0]
        print(f"  {name}: {what} ({probability:.0%})")


def verify(model: keras.Model, paths: list[str], images: np.ndarray, labels: np.ndarray) -> list[dict]:
    """Accuracy of the Keras model, and of each file, on images that the training has not seen."""

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        for start in range(0, len(images), BATCH):
            yield images[start : start + BATCH].astype("float32"), labels[start : start + BATCH]

    results = compare(keras_classifier(model), [tflite_classifier(path, threads=1) for path in paths], batches())
    return [result.percentages() for result in results]


def closing_table(paths: list[str], accuracy: list[dict], times: list[dict]) -> str:
    """What came out: accuracy, agreement with Keras, time and size of each file."""
    median = {os.path.basename(row["file"]): row["median_ms"] for row in times}
    lines = [f"{'':24}   top-1  agrees with Keras  ms an image  size kB"]
    lines.append(f"{'Keras':24}  {accuracy[0]['top1']:5.1f}%  {'':17}  {'':11}  {'':7}")
    for path, row in zip(paths, accuracy[1:], strict=True):
        name = os.path.basename(path)
        lines.append(
            f"{name:24}  {row['top1']:5.1f}%  {row['agreement']:16.1f}%  {median[name]:11.3f}"
            f"  {os.path.getsize(path) / 1e3:7.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs the steps and prints what comes out."""
    print(f"1. Training FD-MobileNet {ALPHA}x on handwritten digits for {SECONDS} seconds")
    images, test_images, labels, test_labels = digits()
    model = train(images, labels)
    os.makedirs(OUTPUT, exist_ok=True)
    saved = os.path.join(OUTPUT, "digits.keras")
    model.save(saved)
    print("2. Converting to float32 and int8")
    ids = tuple(f"training digit {i}" for i in range(128))
    calibration = Calibration(ids, images[: len(ids)])
    recipes = get_recipes(["float32", "int8"])
    paths = list(write(model, "digits", saved_source(saved), recipes, OUTPUT, calibration=calibration))
    print(f"3. Comparing with Keras on {len(test_images)} digits that were held back")
    accuracy = verify(model, paths, test_images, test_labels)
    print("4. Timing on this machine, one thread")
    times = time_models(paths, rounds=5)
    print("5. Classifying two photos")
    photos()
    print(f"\n{closing_table(paths, accuracy, times)}\n\nThe files are in {os.path.abspath(OUTPUT)}.")


if __name__ == "__main__":
    main()

"""Measures the time of a training step of several networks, alternately, on random images.

    python -m benchmarks.train_step --size=128 --batch=64

Times on a shared machine vary, so compare the ratios. "Keras" is `keras.applications.MobileNet`. "one op per group" is
`fd_keras.layers.GroupedConv2D`, and "grouped op" is Keras's own Conv2D with groups.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from fd_keras import cost, layers
from fd_keras.applications import build_by_name
from fd_keras.progress import progress
from fd_keras.training import devices
from fd_keras.training.optimizer import TorchSGD

CLASSES = 10


def _zoo(name: str, alpha: float, size: int) -> keras.Model:
    return build_by_name(name, alpha=alpha, input_shape=(size, size, 3), weights=None, classes=CLASSES)


def _grouped(name: str, alpha: float, size: int) -> keras.Model:
    """A network with Keras's own Conv2D in place of `GroupedConv2D`."""
    ours, layers.GroupedConv2D = layers.GroupedConv2D, keras.layers.Conv2D
    try:
        return _zoo(name, alpha, size)
    finally:
        layers.GroupedConv2D = ours


def _keras_mobilenet(alpha: float, size: int) -> keras.Model:
    """Keras's MobileNet without its head, whose weights exist for few widths and sizes, and with ours."""
    image: Any = keras.Input((size, size, 3))
    random_weights: Any = None  # Keras annotates the argument as str
    trunk = keras.applications.MobileNet(
        input_shape=(size, size, 3), alpha=alpha, include_top=False, weights=random_weights, pooling="avg"
    )
    return keras.Model(image, keras.layers.Dense(CLASSES, "softmax")(trunk(image / 127.5 - 1)))


NETWORKS: dict[str, Callable[[int], keras.Model]] = {
    "FD-MobileNet 0.25x": lambda size: _zoo("fd_mobilenet", 0.25, size),
    "MobileNet 0.125x": lambda size: _zoo("mobilenet", 0.125, size),
    "MobileNet 0.125x (Keras)": lambda size: _keras_mobilenet(0.125, size),
    "FD-ShuffleNet 0.25x, one op per group": lambda size: _zoo("fd_shufflenet", 0.25, size),
    "FD-ShuffleNet 0.25x, grouped op": lambda size: _grouped("fd_shufflenet", 0.25, size),
    "ShuffleNet 0.25x, one op per group": lambda size: _zoo("shufflenet", 0.25, size),
    "ShuffleNet 0.25x, grouped op": lambda size: _grouped("shufflenet", 0.25, size),
}


def _compiled(model: keras.Model) -> keras.Model:
    no_xla: Any = False  # Keras annotates the argument as str
    model.compile(TorchSGD(0.1, weight_decay=4e-5), "sparse_categorical_crossentropy", jit_compile=no_xla)
    return model


def main() -> None:
    """Measures all networks and prints the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=64, help="batch size")
    parser.add_argument("--rounds", type=int, default=7, help="number of measured steps per network")
    args = parser.parse_args()
    devices.reproducible(None)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (args.batch, args.size, args.size, 3)).astype("float32")
    labels = rng.integers(0, CLASSES, args.batch)
    models = {title: _compiled(build(args.size)) for title, build in NETWORKS.items()}
    times = {title: [] for title in models}
    for number in progress(range(args.rounds + 1), unit="rounds"):
        for title, model in models.items():
            start = time.perf_counter()
            model.train_on_batch(images, labels)
            if number:  # the first step traces the graph
                times[title].append(time.perf_counter() - start)
    medians = {title: statistics.median(values) for title, values in times.items()}
    fastest = medians["FD-MobileNet 0.25x"]
    print(f"{'':38} MMACs  images/s   (min .. max)  speedup of FD-MobileNet")
    for title, median in medians.items():
        low, high = (args.batch / edge(times[title]) for edge in (max, min))
        print(
            f"{title:38} {cost.profile(models[title]).macs / 1e6:5.1f}  {args.batch / median:8.0f}  "
            f"({low:4.0f} .. {high:4.0f})  {median / fastest:.2f}"
        )


if __name__ == "__main__":
    main()

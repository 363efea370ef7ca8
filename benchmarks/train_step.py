"""Measures the time of a training step of several networks, alternately, on random images.

    python -m benchmarks.train_step --size=128 --batch=64
    python -m benchmarks.train_step --size=112 --batch=64 --options

Times on a shared machine vary, so compare the ratios. "Keras" is `keras.applications.MobileNet`. "one op per group" is
`fd_keras.layers.GroupedConv2D`, and "grouped op" is Keras's own Conv2D with groups. With --options, the rows are
FD-MobileNet 0.25x with the training options of docs/tiny.md; the teacher is FD-MobileNet 0.5x.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from fd_keras import cost, layers, spec, zoo
from fd_keras.applications import build_by_name
from fd_keras.progress import progress
from fd_keras.training import devices, distillation, trainable_classifier
from fd_keras.training.network_augmentation import WiderNetworks
from fd_keras.training.optimizer import TorchSGD
from fd_keras.training.recipes import RECIPES
from fd_keras.training.trainable_classifier import TrainableClassifier

CLASSES = 10
Step = Callable[[np.ndarray, np.ndarray], None]  # trains on images and labels


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


def _step_of(model: keras.Model) -> Step:
    """Compiles a network, and returns its training step."""
    no_xla: Any = False  # Keras annotates the argument as str
    model.compile(TorchSGD(0.1, weight_decay=4e-5), "sparse_categorical_crossentropy", jit_compile=no_xla)
    return lambda images, labels: model.train_on_batch(images, labels)


# Options of `fd-keras train`, by title.
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "--netaug=3": {"netaug": 3.0},
    "--reparam": {"reparam": True},
    "--teacher": {"teacher": 0.5},
    "--reparam --teacher": {"reparam": True, "teacher": 0.5},
    "--netaug=3 --reparam --teacher": {"netaug": 3.0, "reparam": True, "teacher": 0.5},
}


def _step_with(size: int, teacher: float | None = None, **settings: Any) -> Step:
    """Returns the training step of FD-MobileNet 0.25x with settings of a recipe and a teacher of a width."""
    recipe, arch, alpha = RECIPES["authors"].override(image_size=size, **settings), zoo.get_arch("fd_mobilenet"), 0.25
    net = trainable_classifier.build_net("fd_mobilenet", alpha, size, CLASSES, reparam=recipe.reparam)
    wider = None
    if recipe.netaug > 1:
        wider = WiderNetworks(arch, spec.lower(arch, alpha, classes=CLASSES), net, recipe.netaug, seed=0)
    teaching = None if teacher is None else distillation.as_logits(_zoo("fd_mobilenet", teacher, size))
    model = TrainableClassifier(net, recipe, CLASSES, teaching, wider=wider)
    model.compile(
        TorchSGD(0.1, weight_decay=4e-5),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=trainable_classifier.jit(),
    )

    def step(images: np.ndarray, labels: np.ndarray) -> None:
        zeros = np.zeros(len(images), "int32")
        model.train_on_batch({"image": images.astype("uint8"), "flip": zeros, "wider": zeros}, labels)

    return step


def _steps(size: int, options: bool) -> dict[str, tuple[Step, int]]:
    """Returns the training steps by title, with the multiply-adds of the network at inference."""
    if options:
        macs = cost.profile(_zoo("fd_mobilenet", 0.25, size)).macs
        return {title: (_step_with(size, **settings), macs) for title, settings in OPTIONS.items()}
    models = {title: build(size) for title, build in NETWORKS.items()}
    return {title: (_step_of(model), cost.profile(model).macs) for title, model in models.items()}


def main() -> None:
    """Measures all networks and prints the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=64, help="batch size")
    parser.add_argument("--rounds", type=int, default=7, help="number of measured steps per network")
    parser.add_argument("--options", action="store_true", help="compare training options instead of networks")
    args = parser.parse_args()
    devices.reproducible(None)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (args.batch, args.size, args.size, 3)).astype("float32")
    labels = rng.integers(0, CLASSES, args.batch)
    steps = _steps(args.size, args.options)
    times = {title: [] for title in steps}
    for number in progress(range(args.rounds + 1), unit="rounds"):
        for title, (step, _) in steps.items():
            start = time.perf_counter()
            step(images, labels)
            if number:  # the first step traces the graph
                times[title].append(time.perf_counter() - start)
    medians = {title: statistics.median(values) for title, values in times.items()}
    first = next(iter(medians.values()))
    print(f"{'':38} MMACs  images/s   (min .. max)  time relative to the first row")
    for title, median in medians.items():
        low, high = (args.batch / edge(times[title]) for edge in (max, min))
        print(
            f"{title:38} {steps[title][1] / 1e6:5.1f}  {args.batch / median:8.0f}  "
            f"({low:4.0f} .. {high:4.0f})  {median / first:.2f}"
        )


if __name__ == "__main__":
    main()

"""Measures the time of a detector's training step and test on one image of random pixels, by part.

    python -m benchmarks.voc_step --alpha=0.25 --short_side=300 --roi_size=7

Each row also runs the rows above it in its block, and shows the time that it adds and the total, as medians. Parts
alternate, so that other load on the machine affects all of them. The last line compares tests with `crop_and_resize`
and with the gathers of .tflite files, as median and quartiles over the rounds.
"""

import argparse
import statistics
import time
from collections.abc import Mapping

import tensorflow as tf

from benchmarks.timing import ratio
from fd_keras import zoo
from fd_keras.progress import progress
from fd_keras.training import devices
from fd_keras.training.optimizer import TorchSGD
from fd_keras.training.voc import backbone, detection_pipeline, faster_rcnn
from fd_keras.training.voc.detector_recipe import PAPER
from fd_keras.training.voc.trainable_detector import TrainableDetector

CLASSES = 20


def parts(detector: faster_rcnn.FasterRCNN, example: detection_pipeline.Example) -> dict[str, dict]:
    """Blocks of functions. Each function in a block includes the work of the previous one."""
    trainable = TrainableDetector(detector, TorchSGD(PAPER.learning_rate, weight_decay=PAPER.weight_decay), seed=0)
    image, scale = example.image, example.scale
    graph = tf.function
    first = graph(lambda training: detector._first(image[None], training=training))
    return {
        "training": {
            "features and anchors": lambda: first(True),
            "proposals": graph(lambda: detector.propose(image, scale, training=True)),
            "targets, RoIs, losses": graph(lambda: trainable.losses(example)),
            "gradients and update": lambda: trainable.step(example),
        },
        "test": {
            "features and anchors": lambda: first(False),
            "proposals": graph(lambda: detector.propose(image, scale, training=False)),
            "RoIs and suppression": graph(lambda: detector.detect(image, scale)),
        },
        "gathers": {
            "test": graph(lambda: detector.detect(image, scale, for_tflite=True)),
        },
    }


def main() -> None:
    """Measures all parts and prints the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--backbone", choices=list(zoo.ARCHS), default="fd_mobilenet")
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=7, help="number of measured calls per part")
    parser.add_argument("--threads", type=int)
    for name in ("short_side", "roi_size", "freeze_stride", "anchor_size"):
        parser.add_argument(f"--{name}", type=int, default=getattr(PAPER, name))
    args = parser.parse_args()
    devices.reproducible(args.threads)
    recipe = PAPER.override(
        short_side=args.short_side, long_side=round(args.short_side * 5 / 3), roi_size=args.roi_size,
        freeze_stride=args.freeze_stride, anchor_size=args.anchor_size,
    )  # fmt: skip
    net = faster_rcnn.build_net(backbone.choose(args.backbone, args.alpha), CLASSES, recipe)
    height, width = args.short_side, round(args.short_side * 4 / 3)
    truth = tf.constant([[0.1, 0.2, 0.5, 0.9], [0.5, 0.3, 0.9, 0.7]]) * [width, height, width, height]
    pixels = tf.random.uniform((height, width, 3), 0, 255)
    example = detection_pipeline.Example(pixels, tf.constant(height / 375), truth, tf.constant([3, 7], tf.int64))
    blocks = parts(faster_rcnn.FasterRCNN(net, recipe), example)
    times = {(block, part): [] for block, found in blocks.items() for part in found}
    for number in progress(range(args.rounds + 1), unit="rounds"):
        for block, part in times:
            start = time.perf_counter()
            blocks[block][part]()
            if number:  # the first call traces the graph
                times[block, part].append(time.perf_counter() - start)
    print(f"{net.name}, {height}x{width}, crops of {args.roi_size}: seconds per image")
    show(times)


def show(times: Mapping[tuple[str, str], list[float]]) -> None:
    """Prints the median of each (block, part), and the ratio of the two kinds of test."""
    previous, last = 0.0, ""
    for (block, part), found in times.items():
        median = statistics.median(found)
        previous = previous if block == last else 0.0
        print(f"  {block:10} {part:24} {max(median - previous, 0.0):6.3f}  total {median:6.3f}")
        previous, last = median, block
    gain = ratio(times["test", "RoIs and suppression"], times["gathers", "test"])
    print(f"  time of a test relative to gathers: {gain}")


if __name__ == "__main__":
    main()

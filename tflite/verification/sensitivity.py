"""Sensitivity of the layers to int8: accuracy with a single int8 layer, or with a single layer left in float.

Integers are simulated on the folded graph, with the weights, biases and ranges that the recipe passes to the converter.
Accuracy is measured on images, since errors of single layers do not simply add up to wrong predictions.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from fd_keras import imagenet
from fd_keras.io import write_figure
from fd_keras.progress import progress
from fd_keras.tflite.int8.gptq import correct, on_grid, uncapped
from fd_keras.tflite.int8.graph import Graph, Node, run
from fd_keras.tflite.int8.pipeline import clip_logits, correction, equalized, ranges
from fd_keras.tflite.recipes import Calibration, Int8Settings
from fd_keras.tflite.verification.compare import Comparison
from fd_keras.tflite.verification.evaluation_set import EvaluationSet, SourceImages

Ranges = Mapping[str, tuple[float, float]]  # minimum and maximum of each rounded output


@dataclasses.dataclass(frozen=True)
class Simulation:
    """A network with some layers in simulated int8.

    Attributes:
        graph: The network; weights of int8 layers are rounded.
        ranges: Ranges of the outputs to round; other outputs stay float.
    """

    graph: Graph
    ranges: Ranges

    def __call__(self, images) -> np.ndarray:
        """Scores of shape (batch, classes) for images in the graph's input format."""
        return run(self.graph, images, self._output).numpy()

    def _output(self, node: Node, inputs: list) -> Any:
        values = node.output(inputs)
        return on_grid(node, values, self.ranges[node.name]) if node.name in self.ranges else values


def simulations(
    model: keras.Model, images: np.ndarray, settings: Int8Settings, include_preprocessing: bool, mode: str
) -> dict[str, Simulation]:
    """Builds the float network, the int8 network, and the network of `mode` for each layer.

    Args:
        model: Classifier; see `fold.fold` for supported layers.
        images: Calibration images, RGB 0..255 of shape (batch, height, width, 3).
        settings: Steps of the recipe.
        include_preprocessing: Whether the model normalizes images itself.
        mode: "alone": only this layer is int8; "kept_float": only this layer is float.

    Returns:
        Networks by title: "float", "int8", then the layers' names in execution order.

    Raises:
        ValueError: If a layer has two ranges per channel.
    """
    if settings.split:
        raise ValueError(
            "a file made with --int8_split has layers with two ranges per channel, which cannot be simulated alone"
        )
    exact, images = equalized(model, images, settings, include_preprocessing)
    free = uncapped(exact)

    def rounded(alone: bool) -> Simulation:
        graph = correct(exact, exact, images, correction(settings), alone=alone)
        graph = clip_logits(graph, images) if settings.clip_logits else graph
        return Simulation(graph, ranges(graph, images, rounding=not alone))

    whole = rounded(alone=False)
    variants = {"float": Simulation(free, {}), "int8": whole}
    if mode == "alone":
        single = rounded(alone=True)
        for name, ends in single.ranges.items():
            variants[name] = Simulation(free.updated({name: single.graph.nodes[name]}), {name: ends})
    else:
        for name in whole.ranges:
            others = {other: ends for other, ends in whole.ranges.items() if other != name}
            variants[name] = Simulation(whole.graph.updated({name: free.nodes[name]}), others)
    return variants


def measure(
    model: keras.Model,
    calibration: Calibration,
    evaluation: EvaluationSet | SourceImages,
    settings: Int8Settings,
    include_preprocessing: bool,
    mode: str,
) -> dict[str, Comparison]:
    """Compares each simulation with the float network; results are by title, see `simulations`."""
    variants = simulations(model, calibration.images, settings, include_preprocessing, mode)
    results = {title: Comparison() for title in variants}
    for images, labels in evaluation.batches():
        images = np.asarray(imagenet.preprocess_input(images, include_preprocessing))
        reference = variants["float"](images)
        for title, variant in progress(variants.items(), unit="layers"):
            results[title].update(variant(images), reference, labels)
    return results


def ranked(results: Mapping[str, Comparison], mode: str) -> list[dict]:
    """Records of the float network, the int8 network, then the layers by decreasing sensitivity.

    A layer is sensitive if accuracy is low with only this layer in int8, or high with only this layer in float.
    """
    records = [{"layer": title, **result.percentages()} for title, result in results.items()]
    layers = sorted(records[2:], key=lambda record: (record["top1"] or 0.0, record["agreement"]))
    return records[:2] + (layers if mode == "alone" else layers[::-1])


def table(records: Sequence[dict]) -> str:
    """Formats the records as aligned text."""
    width = max(len(record["layer"]) for record in records)
    lines = [f"{'':{width}}   top-1  agreement"]
    for record in records:
        top1 = "-" if record["top1"] is None else f"{record['top1']:.2f}"
        lines.append(f"{record['layer']:{width}}  {top1:>6}  {record['agreement']:9.2f}")
    return "\n".join(lines)


def plot(path: str, records: Sequence[dict], mode: str) -> None:
    """Plots the share of predictions that each layer changes (alone) or saves (kept float), the largest on top."""
    from matplotlib.figure import Figure

    whole, layers = records[1], records[2:]
    if mode == "alone":
        title, bars = "predictions changed by one int8 layer", [100 - row["agreement"] for row in layers]
    else:
        title, bars = "predictions saved by one float layer", [row["agreement"] - whole["agreement"] for row in layers]
    bars, names = zip(*sorted(zip(bars, (row["layer"] for row in layers), strict=True), reverse=True), strict=True)
    figure = Figure(figsize=(6.4, 1.2 + 0.17 * len(layers)), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, bars, color="#3b6ea5")
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_title(f"{title} (all layers: {100 - whole['agreement']:.1f}%)", fontsize=10)
    axes.set_xlabel(f"% of {whole['images']} images", fontsize=9)
    axes.tick_params(labelsize=7)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    write_figure(path, figure)

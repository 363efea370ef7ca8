"""Ablation of the int8 recipe: accuracy after each step, added on top of the previous steps."""

import dataclasses
import os
import tempfile
from collections.abc import Sequence

import keras

from fd_keras.io import write_figure
from fd_keras.progress import progress
from fd_keras.tflite.export import export
from fd_keras.tflite.recipes import RECIPES, Calibration, ConversionRecipe, Int8Settings
from fd_keras.tflite.verification.compare import compare, keras_classifier, tflite_classifier
from fd_keras.tflite.verification.evaluation_set import EvaluationSet

# The steps in order, each with the settings that it enables.
STEPS: tuple[tuple[str, dict], ...] = (
    ("mean and std folded, border padded with the mean color", {}),
    ("channels equalized", {"equalize": True}),
    ("activations clipped", {"clip": True}),
    ("means corrected", {"bias": True}),
    ("roundings compensated", {"compensate": True}),
    ("layers fitted", {"fit": Int8Settings.fit}),
    ("logits clipped", {"clip_logits": True}),
)
_NOTHING = Int8Settings(equalize=False, clip=False, split=0, fit=0.0, compensate=False, bias=False, clip_logits=False)


def stages() -> list[tuple[str, ConversionRecipe]]:
    """The plain recipe, then the int8 recipe with one more step each time."""
    settings, rows = _NOTHING, [("converter alone", RECIPES["int8_plain"])]
    for title, changes in STEPS:
        settings = dataclasses.replace(settings, **changes)
        rows.append((title, dataclasses.replace(RECIPES["int8"], settings=settings)))
    return rows


def ablation(
    model: keras.Model, calibration: Calibration, images: EvaluationSet, include_preprocessing: bool
) -> list[dict]:
    """Converts with one more step each time, and measures each file.

    Returns:
        `title` and `Comparison.percentages` for the float model, the plain recipe and each step.
    """
    rows = stages()
    with tempfile.TemporaryDirectory() as folder:
        classifiers = []
        for index, (_, recipe) in enumerate(progress(rows, unit="conversions", delay=0.1)):
            path = os.path.join(folder, f"{index}.tflite")
            data = export(model, recipe, calibration=calibration, include_preprocessing=include_preprocessing)
            with open(path, "wb") as file:
                file.write(data)
            classifiers.append(tflite_classifier(path, os.cpu_count() or 1))
        results = compare(keras_classifier(model, include_preprocessing), classifiers, images.batches())
    titles = ("float", *(title for title, _ in rows))
    return [{"title": title, **result.percentages()} for title, result in zip(titles, results, strict=True)]


def ablation_table(rows: Sequence[dict]) -> str:
    """Formats the result of `ablation` as aligned text."""
    lines = [f"{'':56}  top-1  agreement  ties"]
    for row in rows:
        top1 = "-" if row["top1"] is None else f"{row['top1']:.2f}"
        lines.append(f"{row['title']:56}  {top1:>5}  {row['agreement']:9.2f}  {row['ties']:4}")
    return "\n".join([*lines, f"each row includes the steps above it; in percent of {rows[0]['images']} images"])


def ablation_plot(path: str, rows: Sequence[dict]) -> None:
    """Plots the result of `ablation`: predictions that differ from the float model's, by step."""
    from matplotlib.figure import Figure

    steps = rows[1:]
    changed = [100 - row["agreement"] for row in steps]
    figure = Figure(figsize=(8, 0.6 + 0.4 * len(steps)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(
        [row["title"] for row in steps], changed, height=0.62, color=["#b5532a", *["#3b6ea5"] * len(steps)]
    )
    known = rows[0]["top1"] is not None
    labels = [
        f"{value:.1f}%" + (f"   top-1 {row['top1']:.1f}" if known else "")
        for value, row in zip(changed, steps, strict=True)
    ]
    axes.bar_label(bars, labels, padding=4, fontsize=8)
    axes.set_xlim(0, 1.3 * max(*changed, 1.0))
    axes.invert_yaxis()
    title = f"predictions that differ from the float model's, % of {rows[0]['images']} photos"
    title += f" (its top-1 is {rows[0]['top1']:.1f})" if known else ""
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    axes.tick_params(labelsize=8, left=False)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    write_figure(path, figure)

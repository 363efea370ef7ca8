"""Converts a fine-tuned network, compares the files with it on held-out photos, plans their RAM and times them."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence

import keras
import numpy as np

from fd_keras import imagenet
from fd_keras.errors import ProgramError
from fd_keras.io import join, sha256_of
from fd_keras.litert import Runner
from fd_keras.tflite import export
from fd_keras.tflite.format import flatbuffer, sidecar
from fd_keras.tflite.memory.arena import plan, tflm_bytes
from fd_keras.tflite.recipes import Calibration, evenly, get_recipes
from fd_keras.tflite.verification.compare import compare, keras_classifier, tflite_classifier
from fd_keras.tflite.verification.evaluation_set import EvaluationSet
from fd_keras.training.finetune.photo_folder import Labeled, labels_of
from fd_keras.training.finetune.results import FileFacts

RECIPES = ("float32", "int8")
_CALIBRATION_PHOTOS = 128
_LEAST_IMAGES = 32  # calibration images; with fewer photos, their mirror images are used too
_ROUNDS = 5


def convert(
    model: keras.Model, name: str, keras_file: str, train: Sequence[Labeled], classes: Sequence[str], output_dir: str
) -> list[str]:
    """Writes the .tflite files with embedded class names; returns their paths.

    Args:
        model: Fine-tuned network.
        name: Prefix of the file names.
        keras_file: Path of the saved network.
        train: Training photos, from which calibration images are taken.
        classes: Class names in label order.
        output_dir: Folder to write to.
    """
    calibration = _calibration([path for path, _ in train], model.input_shape[1:3])
    source = sidecar.saved_source(keras_file)
    recipes = get_recipes(RECIPES)
    return list(
        export.write(model, name, source, recipes, output_dir, calibration=calibration, class_names=list(classes))
    )


def _calibration(paths: Sequence[str], size: Sequence[int]) -> Calibration:
    chosen = evenly(sorted(paths), _CALIBRATION_PHOTOS)
    images = np.stack(imagenet.load_images(chosen, size)[1])
    if len(images) < _LEAST_IMAGES:
        images, chosen = np.concatenate([images, images[:, :, ::-1]]), chosen * 2
    return Calibration(tuple(chosen), images)


def measure(
    model: keras.Model,
    paths: Sequence[str],
    photos: Sequence[Labeled],
    keras_file: str,
    refit: bool,
    threads: int | None = None,
) -> list[FileFacts]:
    """Compares files with the network on photos, and records the results in the sidecars.

    Args:
        model: Fine-tuned network.
        paths: Paths of the .tflite files.
        photos: Held-out photos.
        keras_file: Path of the saved network.
        refit: Whether the network was finally trained on these photos too, which makes their top-1 meaningless.
        threads: Number of threads; None for all cores.
    """
    steps = [Runner(path).output["quantization"][0] for path in paths]
    files = [tflite_classifier(path, threads or os.cpu_count() or 1) for path in paths]
    images = EvaluationSet(tuple(path for path, _ in photos), labels_of(photos), model.input_shape[1:3])
    found = compare(keras_classifier(model), files, images.batches(), steps=steps)[1:]
    facts = []
    for path, comparison in zip(paths, found, strict=True):
        measured = comparison.percentages()
        if refit:
            measured |= {"top1": None, "top5": None}
        recorded = {key: measured[key] for key in ("images", "top1", "top5", "agreement", "ties")}
        sidecar.record(path, accuracy=recorded | {"reference": keras_file, "trained_on_these": refit})
        facts.append(_facts(path, measured))
    return facts


def _facts(path: str, measured: dict) -> FileFacts:
    recipe = os.path.splitext(path)[0].rpartition("_")[2]
    network = flatbuffer.read(path).network
    ram = plan(network).arena + tflm_bytes(network) if recipe == "int8" else None
    top1 = None if measured["top1"] is None else measured["top1"] / 100
    return FileFacts(path, recipe, os.path.getsize(path), ram, measured["agreement"], measured["ties"], 0.0, top1)


def timed(facts: Sequence[FileFacts], folder: str) -> list[FileFacts]:
    """Adds the median time of each file on this machine, with one thread.

    The benchmark runs in a separate process, so that TensorFlow's threads do not compete with it.

    Args:
        facts: Facts about the files.
        folder: Folder for the results of the benchmark.

    Raises:
        ProgramError: If the benchmark fails.
    """
    program = [sys.executable, "-m", "fd_keras.android_bench.run", "--target=host"]
    how = [f"--rounds={_ROUNDS}", f"--models={','.join(fact.path for fact in facts)}", f"--output_dir={folder}"]
    done = subprocess.run([*program, *how], capture_output=True, text=True)
    if done.returncode:
        raise ProgramError(f"timing the files failed: {done.stderr.strip()[-500:]}")
    with open(join(folder, "rows.jsonl"), encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [dataclasses.replace(fact, milliseconds=_median_ms(fact.path, rows)) for fact in facts]


def _median_ms(path: str, rows: Sequence[dict]) -> float:
    """Median time over the rounds in ms; rows of an older file with the same name are ignored."""
    digest = sha256_of(path)
    return float(np.median([row["median_ns"] for row in rows if row["sha256"] == digest])) / 1e6

"""Fixtures: tf_keras twins of graphs. Code that needs tf_keras runs in separate processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fd_keras.tflite.int8.equalize import equalize, fold_input
from fd_keras.tflite.int8.fold import fold
from fd_keras.tflite.int8.pipeline import ranges
from fd_keras.tflite.qat import training_job, training_process

ROOT = Path(__file__).parents[3]
NETWORKS = (
    "fd_mobilenet",
    "fd_shufflenet",
)  # plain and grouped convolutions, sums, joins, shuffles: all


@pytest.fixture(scope="session")
def packages():
    """Skips tests where the packages for quantization-aware training are not installed."""
    try:
        training_process.check_installed()
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def batch(images) -> np.ndarray:
    return images[:4]


@pytest.fixture(scope="session")
def equalized(network, calibration):
    """The equalized graph of each network and the ranges of its outputs, by name."""
    few = calibration.images[:8].astype("float32")
    graphs = {name: equalize(fold_input(fold(network(name))), few) for name in NETWORKS}
    return {name: (graph, ranges(graph, few, rounding=True)) for name, graph in graphs.items()}


@pytest.fixture(scope="session")
def run_in_tf_keras(packages):
    """Runs Python with tf_keras as TensorFlow's Keras; returns the CompletedProcess."""

    def run(*arguments: str) -> subprocess.CompletedProcess:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "PYTHONPATH": path}
        return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)

    return run


@pytest.fixture(scope="session")
def twins(run_in_tf_keras, equalized, batch, tmp_path_factory) -> dict:
    """The results of tf_keras_twins.py for the equalized graphs."""
    folder = tmp_path_factory.mktemp("twins")
    training_job.save(str(folder / "asked"), {name: (*found, batch) for name, found in equalized.items()})
    script = str(Path(__file__).with_name("tf_keras_twins.py"))
    done = run_in_tf_keras(script, str(folder / "asked"), str(folder / "answer"))
    assert done.returncode == 0, done.stderr
    return training_job.load(str(folder / "answer"))


@pytest.fixture(scope="session")
def many_photos(tmp_path_factory, calibration) -> Path:
    """The minimum number of training images as files: the calibration images upside down and in other colors."""
    folder, upright = tmp_path_factory.mktemp("photos"), calibration.images
    variants = np.concatenate([upright, upright[:, ::-1], upright[..., ::-1], upright[:, ::-1, :, ::-1]])
    assert len(variants) == training_process.MIN_IMAGES
    for index, image in enumerate(variants):
        Image.fromarray(image).save(folder / f"{index:03}.png")
    return folder

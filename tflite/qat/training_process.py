"""The Keras 3 side: prepares the network, starts the training process, and reads the result."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

import keras
import numpy as np

import fd_keras
from fd_keras import imagenet
from fd_keras.photos import list_images
from fd_keras.progress import progress
from fd_keras.tflite.int8.fold import fold
from fd_keras.tflite.int8.graph import Graph, run
from fd_keras.tflite.int8.pipeline import as_taken, prepare, ranges
from fd_keras.tflite.qat.training_job import TrainingJob, TrainingSettings, load, save
from fd_keras.tflite.recipes import Calibration, ConversionRecipe, Int8Settings, evenly

RECIPE = ConversionRecipe("qat", "int8", "int8", "like int8, then trained to match the float network", Int8Settings())
MIN_IMAGES = 128  # fewer would be memorized
PACKAGES = ("tensorflow_model_optimization", "tf_keras")
_PROBE = 4  # number of images used to check the twin
_ROOT = os.path.abspath(os.path.join(os.path.dirname(fd_keras.__file__), os.pardir))


def check_installed() -> None:
    """Raises ValueError unless the packages of the extra `qat` are installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f'quantization-aware training needs {" and ".join(missing)}: pip install "fd-keras[qat]"')


def image_paths(folder: str, count: int) -> list[str]:
    """Selects up to `count` images of a folder, evenly spaced.

    Raises:
        ValueError: If there are too few images to train on.
        OSError: If the folder does not exist.
    """
    paths = evenly(list_images(folder), count)
    if len(paths) < MIN_IMAGES:
        raise ValueError(f"{folder}: found {len(paths)} images, but training needs at least {MIN_IMAGES}; add images.")
    return paths


def trained(
    model: keras.Model,
    paths: Sequence[str],
    calibration: Calibration,
    settings: Int8Settings,
    training: TrainingSettings,
    include_preprocessing: bool,
) -> tuple[Graph, dict]:
    """Prepares the model with the int8 recipe, and trains the result.

    Args:
        model: Float network.
        paths: Paths of the training images.
        calibration: Images for the preparation.
        settings: Steps of the preparation.
        training: Training settings.
        include_preprocessing: Whether the model takes raw pixels.

    Returns:
        A graph for the converter, and the loss on the held-out images before and after training.

    Raises:
        ValueError: If the model has an unknown layer, an image cannot be read, or the training fails.
    """
    student = prepare(model, calibration.images, settings, include_preprocessing)
    rescaling = {"scale": 1.0, "offset": 0.0} if include_preprocessing else imagenet.rescaling(student.input_shape[2])
    seen = as_taken(student, calibration.images, include_preprocessing)
    with tempfile.TemporaryDirectory(prefix="fd-keras-qat-") as folder:
        images_path = os.path.join(folder, "images.npy")
        _decode(paths, model.input_shape[1:], images_path)
        job = TrainingJob(
            fold(model),
            student,
            ranges(student, seen, rounding=True),
            images_path,
            **{name: np.asarray(values, "float32") for name, values in rescaling.items()},
            probe=seen[:_PROBE],
            expected=run(student, seen[:_PROBE]).numpy(),
            training=training,
        )
        return _distilled(job, folder)


def _decode(paths: Sequence[str], size: Sequence[int], path: str) -> None:
    """Writes the images, cropped as for evaluation, as a single uint8 array."""
    images = np.lib.format.open_memmap(path, "w+", "uint8", (len(paths), *size))
    for index, image in enumerate(progress(paths, unit="images decoded")):
        images[index] = imagenet.load_image(image, size)
    images.flush()


def _distilled(job: TrainingJob, folder: str) -> tuple[Graph, dict]:
    """Runs the job in a separate process; `folder` is for the files that the processes exchange."""
    job_path, result_path = (os.path.join(folder, name) for name in ("job", "result"))
    save(job_path, job)
    total = job.training.epochs * (job.steps + 1) + 1
    lines = _lines_of("fd_keras.tflite.qat.distillation", job_path, result_path, scratch=folder)
    losses = [line["held_out"] for line in progress(lines, total, unit="steps") if "held_out" in line]
    return load(result_path), {"before": losses[0], "after": min(losses)}


def _lines_of(module: str, *arguments: str, scratch: str) -> Iterator[dict]:
    """Runs a module with tf_keras as TensorFlow's Keras, and yields its JSON lines as they are printed.

    Raises:
        ValueError: If the module fails; the message ends with the last line of its standard error.
    """
    path = os.pathsep.join([_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "PYTHONPATH": path}
    with open(os.path.join(scratch, "errors"), "w+", encoding="utf-8", errors="replace") as errors:
        command = [sys.executable, "-m", module, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as child:
            try:
                yield from map(json.loads, child.stdout or ())
            except BaseException:
                child.kill()  # otherwise leaving the block would wait for it
                raise
        if child.returncode:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["no message"])[-1]
            raise ValueError(f"the training process failed with status {child.returncode}: {last}")

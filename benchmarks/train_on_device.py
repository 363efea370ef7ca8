"""Trains a network on photos in an accelerator's memory, with the flags of `fd-keras train`.

    KERAS_BACKEND=jax python -m benchmarks.train_on_device --data=PHOTOS --recipe=authors --alpha=0.25 --image_size=64 \
        --run_dir=RUN

For small data sets of square photos of one size, such as Tiny-ImageNet-200: PHOTOS has train/ and val/ with a folder
for each class. RUN gets the network, history.csv, and record.json with settings and times. TensorFlow is not needed. An
interrupted run cannot be resumed.
"""

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from fd_keras import imagenet, photos, zoo
from fd_keras.io import write_atomically, write_json
from fd_keras.program import Program, UsageError
from fd_keras.progress import progress
from fd_keras.training import recipes, run_flags

if TYPE_CHECKING:
    from benchmarks.device_loop import Photos

_MODEL = flags.DEFINE_enum("model", "fd_mobilenet", list(zoo.ARCHS), "Network to train.")
_TEACHER = flags.DEFINE_string("teacher", None, "Distill from this .keras file, a network with the same classes.")
_DATA = flags.DEFINE_string("data", None, "Folder with train/CLASS/ and val/CLASS/.", required=True)
_RECIPE = flags.DEFINE_enum("recipe", "paper", list(recipes.RECIPES), "Training recipe.")
_OVERRIDES = recipes.TrainingRecipe.define_flags()
_PRECISION = flags.DEFINE_enum("mixed_precision", "none", ["none", "bfloat16"], "Compute type.")
_EVERY = flags.DEFINE_integer("evaluate_every", 5, "Number of epochs between evaluations.", lower_bound=1)

HISTORY, RECORD = "history.csv", "record.json"
COLUMNS = ("epoch", "loss", "top1", "val_loss", "val_top1")

_CHUNK = 500  # photos that a process decodes at once


def decoded(folder: str, size: int | None, workers: int | None = None) -> "tuple[Photos, list[str]]":
    """Decodes the photos of a folder with one folder per class.

    Args:
        folder: Folder of the classes.
        size: Side of the crops for evaluation in pixels; None for whole photos, which must be square and equally large.
        workers: Number of processes; None for one per core.

    Returns:
        The photos, and the names of the classes.

    Raises:
        ValueError: If a photo cannot be decoded or has another size; the message names it.
    """
    from benchmarks.device_loop import Photos

    listing = photos.list_classes(folder)
    labeled = [(os.path.join(folder, path), label) for label, paths in enumerate(listing.values()) for path in paths]
    paths, labels = zip(*labeled, strict=True)
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    # Not forked: JAX has threads, which a fork would not copy.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        parts = list(progress(pool.map(_decode, chunks, [size] * len(chunks)), len(chunks), unit="batches"))
    sides = sorted({len(part[0]) for part in parts})
    if len(sides) > 1:
        raise ValueError(f"{folder}: photos of {sides[0]} to {sides[-1]} pixels; all must have the same size.")
    return Photos(np.concatenate(parts), np.array(labels, "int32")), list(listing)


def _decode(paths: Sequence[str], size: int | None) -> np.ndarray:
    if size:
        return np.stack([imagenet.load_image(path, (size, size)) for path in paths])
    images = []
    for path in paths:
        with photos.opened(path) as image:
            images.append(np.asarray(photos.rgb(image)))
        height, width, _ = images[-1].shape
        if height != width or height != len(images[0]):
            raise ValueError(f"{path}: {width}x{height} pixels; all photos must be square and have the same size.")
    return np.stack(images)


def main(argv: list[str]) -> None:
    """Trains, evaluates, and writes the results."""
    import jax
    import keras

    from benchmarks.device_loop import DeviceTraining

    if keras.backend.backend() != "jax":
        raise UsageError(f"set KERAS_BACKEND=jax; it is {keras.backend.backend()}.")
    if _PRECISION.value != "none":
        keras.config.set_dtype_policy(f"mixed_{_PRECISION.value}")
    recipe = recipes.RECIPES[_RECIPE.value].override(**{name: flag.value for name, flag in _OVERRIDES.items()})
    given = run_flags.given(_MODEL.value)
    train, classes = decoded(os.path.join(_DATA.value, "train"), None)
    val, val_classes = decoded(os.path.join(_DATA.value, "val"), recipe.image_size)
    if val_classes != classes:
        raise ValueError(f"{_DATA.value}: train/ and val/ have different classes.")
    training = DeviceTraining(
        _MODEL.value, given["alpha"], recipe, train, len(classes), given["seed"], _TEACHER.value,
        given.get("init_weights"),
    )  # fmt: skip
    record = {
        "model": _MODEL.value,
        **{name: given.get(name) for name in ("alpha", "seed", "init_weights")},
        "teacher": _TEACHER.value,
        "recipe": recipe.settings(),
        "mixed_precision": _PRECISION.value,
        "device": jax.devices()[0].device_kind,
        "photos": {"train": len(train.labels), "val": len(val.labels)},
    }
    run_dir = given["run_dir"]
    os.makedirs(run_dir, exist_ok=True)
    history, seconds = [], []
    for epoch in range(recipe.epochs):
        start = time.perf_counter()
        history.append({"epoch": epoch + 1, **training.train_epoch(epoch)})
        seconds.append(time.perf_counter() - start)
        last = epoch + 1 == recipe.epochs
        if last or (epoch + 1) % _EVERY.value == 0:
            training.update_model(last)
            history[-1] |= training.score(val)
            print(" ".join(f"{name} {value:.4g}" for name, value in history[-1].items()), flush=True)
    record |= {
        "seconds_per_epoch": float(np.median(seconds[1:] or seconds)),  # without the first epoch, which compiles
        "last": history[-1],
    }
    write_atomically(os.path.join(run_dir, HISTORY), _csv(history).encode())
    training.model.save(os.path.join(run_dir, f"{training.model.name}.keras"))
    write_json(os.path.join(run_dir, RECORD), record)


def _csv(history: list[dict[str, float]]) -> str:
    """Formats a history; epochs without an evaluation have empty fields."""
    lines = [",".join(COLUMNS)]
    lines += [",".join(f"{row[name]:.6g}" if name in row else "" for name in COLUMNS) for row in history]
    return "\n".join(lines) + "\n"


PROGRAM = Program(main, values=lambda: recipes.RECIPES[_RECIPE.value].settings())

if __name__ == "__main__":
    PROGRAM.run()

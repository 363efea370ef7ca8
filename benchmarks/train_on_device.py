"""Trains a network on photos in an accelerator's memory, with the flags of `fd-keras train`.

    KERAS_BACKEND=jax python -m benchmarks.train_on_device --data=PHOTOS --recipe=authors --alpha=0.25 --image_size=64 \
        --run_dir=RUN

For small data sets of square photos of one size, such as Tiny-ImageNet-200: PHOTOS has train/ and val/ with a folder
for each class. RUN gets the network, history.csv, and record.json with settings and times. TensorFlow is not needed. An
interrupted run cannot be resumed.
"""

import os
import time
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from benchmarks.device_files import COLUMNS, HISTORY, RECORD, decoded
from fd_keras import zoo
from fd_keras.io import write_json
from fd_keras.program import Program, UsageError
from fd_keras.training import recipes, reporting, run_flags

if TYPE_CHECKING:
    from benchmarks.device_loop import DeviceTraining, Photos

_MODEL = flags.DEFINE_enum("model", "fd_mobilenet", list(zoo.ARCHS), "Network to train.")
_TEACHER = flags.DEFINE_string("teacher", None, "Distill from this .keras file, a network with the same classes.")
_DATA = flags.DEFINE_string("data", None, "Folder with train/CLASS/ and val/CLASS/.", required=True)
_RECIPE = flags.DEFINE_enum("recipe", "paper", list(recipes.RECIPES), "Training recipe.")
_OVERRIDES = recipes.TrainingRecipe.define_flags()
_PRECISION = flags.DEFINE_enum("mixed_precision", "none", ["none", "bfloat16"], "Compute type.")
_EVERY = flags.DEFINE_integer("evaluate_every", 5, "Number of epochs between evaluations.", lower_bound=1)


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
    history, seconds = _train(training, val, recipe.epochs)
    record |= {"seconds_per_epoch": seconds, "last": history[-1]}
    reporting.write_history(os.path.join(run_dir, HISTORY), history, COLUMNS)
    training.model.save(os.path.join(run_dir, f"{training.model.name}.keras"))
    write_json(os.path.join(run_dir, RECORD), record)


def _train(training: "DeviceTraining", val: "Photos", epochs: int) -> tuple[list[dict], float]:
    """Trains and evaluates; returns the history and the median seconds of an epoch."""
    history, seconds = [], []
    for epoch in range(epochs):
        start = time.perf_counter()
        history.append({"epoch": epoch + 1, **training.train_epoch(epoch)})
        seconds.append(time.perf_counter() - start)
        last = epoch + 1 == epochs
        if last or (epoch + 1) % _EVERY.value == 0:
            training.update_model(last)
            history[-1] |= training.score(val)
            print(" ".join(f"{name} {value:.4g}" for name, value in history[-1].items()), flush=True)
    return history, float(np.median(seconds[1:] or seconds))  # without the first epoch, which compiles


PROGRAM = Program(main, values=lambda: recipes.RECIPES[_RECIPE.value].settings())

if __name__ == "__main__":
    PROGRAM.run()

"""Trains a network for integers, to answer as the float one does, and writes <name>_qat.tflite with its .json.

python -m tflite.qat --keras_model=mine.keras --train_dir=photos --output_dir=out

It starts where the int8 recipe ends, and needs no labels. docs/qat.md says when that is worth the time.
"""

import dataclasses
import os
import signal
import sys

from absl import app, flags, logging

from fd_keras.tflite import model_flags
from fd_keras.tflite.export import fixed_size, write
from fd_keras.tflite.qat import training_process
from fd_keras.tflite.qat.training_job import TrainingSettings

flags.adopt_module_key_flags(model_flags)  # for --help
_IMAGES = flags.DEFINE_string("train_dir", None, "Folder of images to train on; no labels needed.", required=True)
_COUNT = flags.DEFINE_integer("train_count", 4096, "How many of them to take, evenly.", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", 5, "Passes over them.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch_size", 32, "Images a step.", lower_bound=1)
_RATE = flags.DEFINE_float("learning_rate", 5e-3, "Of Adam, in integer steps; falls to zero.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Of the images' order and mirroring.", lower_bound=0)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}; everything is given by flags.")
    logging.set_verbosity(logging.WARNING)  # TensorFlow reports every file that it saves
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that what was begun is cleared up
    include, output = model_flags.INCLUDE_PREPROCESSING.value, model_flags.OUTPUT_DIR.value
    training = TrainingSettings(_EPOCHS.value, _BATCH.value, _RATE.value, _SEED.value)
    recipe = dataclasses.replace(training_process.RECIPE, settings=model_flags.settings())
    try:
        training_process.check_installed()
        paths = training_process.image_paths(_IMAGES.value, _COUNT.value)
        model, name, source = model_flags.model()
        calibration = model_flags.calibration(fixed_size(model), otherwise=_IMAGES.value)
        os.makedirs(output, exist_ok=True)  # better an error now than after the training
        graph, held_out = training_process.trained(model, paths, calibration, recipe.settings, training, include)
        facts = {"images": len(paths), **dataclasses.asdict(training), "held_out_loss": held_out}
        (path,) = write(
            model, name, {**source, "qat": facts}, [recipe], output, calibration=calibration,
            include_preprocessing=include, io=model_flags.IO.value, graph=graph,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print("loss on held-out images: {before:.5f} before, {after:.5f} after training".format(**held_out))
    if held_out["after"] == held_out["before"]:
        print("training did not help: the weights are those of the int8 recipe")
    print(f"{path}  {os.path.getsize(path) / 1e3:,.0f} kB")


if __name__ == "__main__":
    app.run(main)

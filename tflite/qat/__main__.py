"""Trains an int8 network to match its float network, and writes NAME_qat.tflite with its .json.

    fd-keras qat --keras_model=mine.keras --train_dir=PHOTOS --output_dir=OUT

Training starts from the result of the int8 recipe and needs no labels. docs/qat.md explains when it is worth the time.
"""

import dataclasses
import os
import signal
from typing import NoReturn

from absl import flags, logging

from fd_keras.program import Program, Stopped, flag_group
from fd_keras.tflite import model_flags

with flag_group("Training"):
    _IMAGES = flags.DEFINE_string("train_dir", None, "Folder of images to train on; no labels needed.", required=True)
    _COUNT = flags.DEFINE_integer(
        "train_count", 4096, "Number of training images, evenly spaced in the folder.", lower_bound=1
    )
    _EPOCHS = flags.DEFINE_integer("epochs", 5, "Passes over the images.", lower_bound=1)
    _BATCH = flags.DEFINE_integer("batch_size", 32, "Images per step.", lower_bound=1)
    _RATE = flags.DEFINE_float(
        "learning_rate", 5e-3, "Initial learning rate of Adam, in quantization steps; decays to zero.", lower_bound=0
    )
    _SEED = flags.DEFINE_integer("seed", 0, "Seed of the order and mirroring of images.", lower_bound=0)
flags.adopt_module_key_flags(model_flags)


def _stop(number: int, frame: object) -> NoReturn:
    """Raises an exception, so that temporary files are deleted and the training process ends."""
    raise Stopped("stopped; nothing was written", number)


def main(argv: list[str]) -> None:
    """Trains, writes the file and prints the loss before and after."""
    model_flags.check(images=_IMAGES.value)
    from fd_keras.tflite.export import fixed_size, write
    from fd_keras.tflite.qat import training_process
    from fd_keras.tflite.qat.training_job import TrainingSettings

    logging.set_verbosity(logging.WARNING)  # otherwise TensorFlow logs every file that it saves
    signal.signal(signal.SIGTERM, _stop)
    include, output = model_flags.INCLUDE_PREPROCESSING.value, model_flags.OUTPUT_DIR.value
    training = TrainingSettings(_EPOCHS.value, _BATCH.value, _RATE.value, _SEED.value)
    settings = model_flags.settings()
    training_process.check_installed()
    paths = training_process.image_paths(_IMAGES.value, _COUNT.value)
    model, name, source = model_flags.model()
    calibration = model_flags.calibration(fixed_size(model), otherwise=_IMAGES.value)
    assert calibration  # --train_dir is required
    graph, held_out = training_process.trained(model, paths, calibration, settings, training, include)
    facts = {"images": len(paths), **dataclasses.asdict(training), "held_out_loss": held_out}
    (path,) = write(
        model,
        name,
        {**source, "qat": facts},
        [dataclasses.replace(training_process.RECIPE, settings=settings)],
        output,
        calibration=calibration,
        include_preprocessing=include,
        io=model_flags.IO.value,
        graph=graph,
    )
    print("loss on held-out images: {before:.5f} before, {after:.5f} after training".format(**held_out))
    if held_out["after"] == held_out["before"]:
        print("training did not help; keeping the weights of the int8 recipe")
    print(f"{path}  {os.path.getsize(path) / 1e3:,.0f} kB")
    print(model_flags.goes_on([path]))


PROGRAM = Program(main)

if __name__ == "__main__":
    PROGRAM.run()

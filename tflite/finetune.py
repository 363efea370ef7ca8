"""Trains a classifier on your own photos, and writes .tflite files and a report.

    fd-keras finetune PHOTOS --output_dir=mine
    fd-keras finetune PHOTOS --output_dir=mine --alpha=0.5 --image_size=128

PHOTOS has one folder of photos for each class, or train/ and val/ with such folders. If the command is interrupted,
run it again to resume. Training settings that you do not pass are chosen by the number of photos.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from absl import flags, logging

from fd_keras import class_names, imagenet, zoo
from fd_keras import weights as weights_lib
from fd_keras.io import join, write_atomically, write_json
from fd_keras.photos import check_outside
from fd_keras.program import Program, Stopped, UsageError, define_positive, flag_group
from fd_keras.training import recipes, settings
from fd_keras.training.finetune import options

if TYPE_CHECKING:
    from fd_keras.training.finetune.candidates import FinetuneNetwork
    from fd_keras.training.finetune.finetuning import Finetuned
    from fd_keras.training.finetune.photo_folder import PhotoFolder
    from fd_keras.training.finetune.preparation import Prepared

_WORK, _TIMING = "work", "timing"  # subfolders of the output folder

with flag_group("Network"):
    _MODEL = flags.DEFINE_enum("model", "fd_mobilenet", list(zoo.ARCHS), "Network to train.")
    _ALPHA = define_positive("alpha", 0.25, "Width multiplier of the network: 0.25, 0.5, 0.75 or 1.", 100)
    _GROUPS = flags.DEFINE_integer("groups", None, "Groups of a ShuffleNet (default 3).", lower_bound=1)
    _STEM = define_positive("stem_multiplier", None, "Stem width of a ShuffleNet (default alpha, at least 0.5).", 100)
    _WEIGHTS = flags.DEFINE_string("init_weights", "imagenet", "imagenet, imagenet_authors, a path, or none (random).")
with flag_group("Output"):
    _OUTPUT = flags.DEFINE_string("output_dir", None, "Folder for the results, new or to resume.", required=True)
with flag_group("Choices"):
    _SHARE = define_positive(
        "val_fraction", None, "Share of each class to hold out without val/ (default 0.2, up to 1000 photos).", 1
    )
    _METHOD = flags.DEFINE_enum("method", "auto", options.METHODS, "Head, whole network, or the better of both.")
    _REFIT = flags.DEFINE_enum("refit", "auto", options.REFIT, "Finally train again on all photos.")
    _VIEWS = flags.DEFINE_integer("views", None, "Views of each photo for fitting the linear head.", 1, 64)
    _TEACHER = flags.DEFINE_string("teacher", options.AUTO, "auto, none, or a teacher as for fd-keras train.")
    _SEED = flags.DEFINE_integer("seed", 0, "Random seed.", lower_bound=0)
    _THREADS = flags.DEFINE_integer("threads", None, "Number of threads (default all cores).", lower_bound=1)
with flag_group("Training of the whole network"):
    _OVERRIDES = recipes.TrainingRecipe.define_flags()
    flags.adopt_module_key_flags(settings)

_RECORDED = (_MODEL, _ALPHA, _GROUPS, _STEM, _WEIGHTS, _SHARE, _METHOD, _REFIT, _VIEWS, _TEACHER, _SEED)


def _overrides() -> dict:
    return {name: flag.value for name, flag in _OVERRIDES.items() if flag.value is not None}


def _weights() -> str | None:
    """Path of the initial weights; the authors' weights if those of --init_weights=imagenet cannot be downloaded."""
    wanted, arch = _WEIGHTS.value, zoo.get_arch(_MODEL.value, _GROUPS.value, _STEM.value)
    if wanted.lower() == "none":
        return None
    try:
        return weights_lib.resolve(wanted, arch, _ALPHA.value)
    except OSError as error:
        if wanted != "imagenet":
            raise
        try:
            path = weights_lib.resolve("imagenet_authors", arch, _ALPHA.value)
        except (OSError, ValueError):
            raise OSError(f"{error} Or train from scratch, with --init_weights=none.") from None
        logging.warning(
            "the weights of --init_weights=imagenet could not be downloaded; using those of the paper's authors, %s "
            "(license: %s)",
            path,
            weights_lib.find("imagenet_authors", arch, _ALPHA.value).license,
        )
        return path


def _network(classes: tuple[str, ...], weights: str | None) -> "FinetuneNetwork":
    from fd_keras.training.finetune.candidates import FinetuneNetwork

    size = _OVERRIDES["image_size"].value or imagenet.SIZE
    return FinetuneNetwork(_MODEL.value, _ALPHA.value, size, classes, weights, _GROUPS.value, _STEM.value, _SEED.value)


def _options() -> options.Options:
    teacher = None if _TEACHER.value.lower() == "none" else _TEACHER.value
    return options.Options(_METHOD.value, _REFIT.value, _VIEWS.value, teacher, _overrides(), _THREADS.value)


def _check_weights() -> None:
    """Raises UsageError for flags that contradict --init_weights."""
    fresh = _WEIGHTS.value.lower() == "none"
    if fresh and _METHOD.value == "head":
        raise UsageError("--method=head needs trained weights, but --init_weights=none; leave one of them out.")
    if not fresh and _OVERRIDES["reparam"].value:
        raise UsageError("--reparam trains from random weights; pass --init_weights=none, or leave out --reparam.")


def _open(photos: str) -> "PhotoFolder":
    from fd_keras.training.finetune.photo_folder import open_folder

    if "," in os.path.abspath(_OUTPUT.value):
        raise UsageError(f"--output_dir={_OUTPUT.value}: contains a comma, which separates files for fd-keras bench")
    _check_weights()
    folder = open_folder(photos)
    if folder.held_out is not None and _SHARE.value is not None:
        raise ValueError(f"{photos} already has a folder of held-out photos; remove --val_fraction.")
    for root in folder.roots:
        check_outside(root, _OUTPUT.value, "--output_dir")
    return folder


def _config() -> dict:
    return {flag.name: flag.value for flag in (*_RECORDED, *_OVERRIDES.values())}


def _files(folder: "PhotoFolder") -> dict:
    """Describes all photos of the folder by their names, labels, sizes and bytes, without decoding them."""
    from fd_keras.training import sources
    from fd_keras.training.finetune.photo_folder import labels_of

    listed = (*folder.train, *(folder.held_out or ()))
    paths = [path for path, _ in listed]
    return sources.describe(sources.Folder(folder.root, paths, labels_of(listed), folder.classes))


def _description(network: "FinetuneNetwork", folder: "PhotoFolder", prepared: "Prepared") -> dict:
    """Describes this fine-tuning for run.json, so that a different one in the same folder is rejected."""
    from fd_keras.training import run_record, sources
    from fd_keras.training.finetune.candidates import source_of

    sides = {"train": prepared.split.train, "val": prepared.split.held_out}
    data = {side: sources.describe(source_of(folder.root, found, network.classes)) for side, found in sides.items()}
    known = {"name": network.name, "config": _config(), "files": _files(folder), "data": data}
    return known | {"notes": prepared.notes, **run_record.origin()}


def _is_reported(folder: "PhotoFolder") -> bool:
    """Prints the result of a finished run with the same flags on the same files; returns whether there is one."""
    from fd_keras.training import run_record

    path = join(_OUTPUT.value, run_record.FILE)
    before = run_record.read(path) if os.path.exists(path) else {}
    if "result" not in before or before.get("config") != _config() or before.get("files") != _files(folder):
        return False
    from fd_keras.tflite import finetune_results

    print(finetune_results.already_done(_OUTPUT.value, folder.root, before["result"]))
    return True


def _is_finished(path: str, description: dict) -> bool:
    """Whether run.json marks this fine-tuning as finished; raises ValueError if it describes a different one."""
    from fd_keras.training import run_record

    run_record.check_same(path, description, "--output_dir")
    return os.path.exists(path) and "result" in run_record.read(path)


def _train(network: "FinetuneNetwork", prepared: "Prepared") -> "Finetuned":
    from fd_keras.training.finetune.finetuning import Finetuning

    work = join(_OUTPUT.value, _WORK)
    return Finetuning(network, prepared.split, prepared.given, _options(), work).run()


def _write(network: "FinetuneNetwork", photos: str, prepared: "Prepared", found: "Finetuned") -> dict:
    """Writes the network, the .tflite files and the report; returns the results for run.json."""
    from fd_keras.tflite import finetune_files, finetune_results, model_card
    from fd_keras.training import run_record
    from fd_keras.training.finetune import page

    folder, split = _OUTPUT.value, prepared.split
    keras_file = join(folder, f"{network.name}.keras")
    run_record.save_model(found.model, keras_file)
    write_atomically(join(folder, class_names.FILE), "".join(f"{name}\n" for name in network.classes).encode())
    dataclasses.replace(split, refit=found.refit).write(folder)
    print("converting to float32 and int8")
    logging.set_verbosity(logging.WARNING)  # otherwise TensorFlow logs every file that it saves
    paths = finetune_files.convert(found.model, network.name, keras_file, split.train, network.classes, folder)
    print(f"comparing the files with Keras on {len(split.held_out)} photos")
    files = finetune_files.measure(found.model, paths, split.held_out, keras_file, found.refit, _THREADS.value)
    print("timing them on this machine")
    files = finetune_files.timed(files, join(folder, _TIMING))
    results = finetune_results.gather(network, photos, folder, prepared, found, keras_file, files)
    page.write(join(folder, finetune_results.REPORT), results)
    origin = weights_lib.license_of(network.weights)
    card = model_card.write(paths, training=finetune_results.training_text(results), license_text=origin)
    print(finetune_results.closing(results, card))
    return finetune_results.summary(results)


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    """Turns Ctrl-C between the trainings, which stop by themselves, into a message that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped("stopped; the same command resumes from here.") from None


def _run(folder: "PhotoFolder", weights: str | None) -> None:
    """Runs or resumes the fine-tuning."""
    from fd_keras.tflite import finetune_results
    from fd_keras.training import devices, distillation, run_lifecycle, run_record
    from fd_keras.training.finetune.preparation import prepare

    devices.reproducible(_THREADS.value)
    if _TEACHER.value.lower() not in (options.AUTO, "none"):
        distillation.open_teacher(_TEACHER.value, folder.classes)  # fails before anything is written
    network, out = _network(folder.classes, weights), _OUTPUT.value
    record = join(out, run_record.FILE)
    with run_lifecycle.locked_folder(out, flag="--output_dir"), _resumable():
        prepared = prepare(folder, network.image_size, _SHARE.value, out, print)
        description = _description(network, folder, prepared)
        if _is_finished(record, description):
            print(finetune_results.already_done(out, folder.root, run_record.read(record)["result"]))
            return
        write_json(record, description)
        prepared.split.write(out)
        for note in prepared.notes:
            print(f"note: {note}")
        result = _write(network, folder.root, prepared, _train(network, prepared))
        write_json(record, description | {"result": result})


def main(argv: list[str]) -> None:
    """Runs or resumes the fine-tuning; if it is finished, only prints its result."""
    if len(argv) != 1:
        raise UsageError(f"expected one folder of photos, got {len(argv)}")
    folder = _open(argv[0])
    if not _is_reported(folder):
        _run(folder, _weights())


PROGRAM = Program(main, positional="PHOTOS")

if __name__ == "__main__":
    PROGRAM.run()

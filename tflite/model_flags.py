"""Flags for the model to convert, its calibration images and the steps of the int8 recipe."""

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from fd_keras import class_names, zoo
from fd_keras import weights as weights_lib
from fd_keras.io import sha256_of
from fd_keras.next_step import next_line
from fd_keras.program import UsageError, define_positive, flag_group
from fd_keras.spec import model_name
from fd_keras.tflite.format.sidecar import saved_source
from fd_keras.tflite.output import check_file, check_folder
from fd_keras.tflite.recipes import IO_TYPES, Calibration, Int8Settings, calibration_paths, load_calibration, read_ids

if TYPE_CHECKING:
    import keras


def _define_step(field: dataclasses.Field) -> flags.FlagHolder:
    """Defines the flag for a field of `Int8Settings`."""
    name, text = f"int8_{field.name}", field.metadata["text"]
    default: Any = field.default
    low, high = field.metadata["low"], field.metadata["high"]
    if isinstance(default, bool):
        return flags.DEFINE_bool(name, default, text)
    if isinstance(default, int):
        return flags.DEFINE_integer(name, default, text, lower_bound=low)
    return flags.DEFINE_float(name, default, text, lower_bound=low, upper_bound=high)


with flag_group("Model"):
    _MODEL = flags.DEFINE_enum("model", "fd_mobilenet", list(zoo.ARCHS), "Network to convert.")
    _ALPHA = define_positive("alpha", 1.0, "Width multiplier of the network.", 100)
    _SIZE = flags.DEFINE_integer("size", 224, "Side of the square input image.", 32, 8192)
    _GROUPS = flags.DEFINE_integer("groups", None, "Groups of a ShuffleNet (default 3).", lower_bound=1)
    _STEM = define_positive("stem_multiplier", None, "Stem width of a ShuffleNet (default alpha, at least 0.5).", 100)
    _WEIGHTS = flags.DEFINE_string("weights", "imagenet", 'imagenet, imagenet_authors, a path, or "none" (random).')
    _KERAS_MODEL = flags.DEFINE_string("keras_model", None, "Saved .keras model to convert instead of --model.")
    INCLUDE_PREPROCESSING = flags.DEFINE_bool("include_preprocessing", True, "Let the files take raw RGB 0..255.")
with flag_group("Calibration"):
    CALIBRATION = flags.DEFINE_string("calibration_dir", None, "Folder of training images, to calibrate int8.")
    _COUNT = flags.DEFINE_integer("calibration_count", 128, "Number of images, evenly spaced.", lower_bound=1)
    _IDS = flags.DEFINE_string("calibration_ids", None, "Text file of images in the folder to use, one per line.")
with flag_group("Int8 recipe"):
    IO = flags.DEFINE_enum("io", "uint8", IO_TYPES, "Type of the input and output of int8 files.")
    _STEPS = {field.name: _define_step(field) for field in dataclasses.fields(Int8Settings)}
with flag_group("Output"):
    OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write to.", required=True)


def check(images: str | None = None) -> None:
    """Validates the flags before TensorFlow is loaded.

    Args:
        images: Default folder of calibration images, used without --calibration_dir.

    Raises:
        UsageError: If flags contradict each other.
        ValueError, OSError: If files or folders are missing.
    """
    check_folder(OUTPUT_DIR.value)
    if _KERAS_MODEL.value:
        check_file("keras_model", _KERAS_MODEL.value)
        if unused := [flag.name for flag in (_MODEL, _ALPHA, _SIZE, _GROUPS, _STEM, _WEIGHTS) if flag.present]:
            raise UsageError(f"--{unused[0]} has no effect with --keras_model; leave one of them out")
    elif _weights() not in (None, *weights_lib.COLLECTIONS):
        weights_lib.resolve(_WEIGHTS.value, zoo.get_arch(_MODEL.value, _GROUPS.value, _STEM.value), _ALPHA.value)
    folder = CALIBRATION.value or images
    if folder:
        calibration_paths(folder, _COUNT.value, _ids())


def _weights() -> str | None:
    return None if _WEIGHTS.value.lower() == "none" else _WEIGHTS.value


def _ids() -> tuple[str, ...] | None:
    return tuple(read_ids(_IDS.value)) if _IDS.value else None


def goes_on(paths: Sequence[str]) -> str:
    """Formats the line with the next command: `verify` if the model's run held photos out, else `bench`."""
    from fd_keras.training import evaluation_photos

    run = class_names.run_of(_KERAS_MODEL.value) if _KERAS_MODEL.value else None
    if run and evaluation_photos.is_known(run):
        return next_line("verify", tflite=paths, run_dir=run, record=True)
    return next_line("bench", models=OUTPUT_DIR.value, target="host")


def model() -> "tuple[keras.Model, str, dict]":
    """Loads or builds the model that the flags name.

    Returns:
        The model, the name for its files, and facts that identify it.

    Raises:
        ValueError: If the model cannot be built or loaded.
        OSError: If a file does not exist.
    """
    return _load(_KERAS_MODEL.value) if _KERAS_MODEL.value else _build()


def _load(path: str) -> "tuple[keras.Model, str, dict]":
    from fd_keras.image_classifier import check_form
    from fd_keras.saved import load_float32

    loaded = load_float32(path)
    check_form(loaded, path)
    for layer in loaded._flatten_layers():
        if mode := layer.dtype_policy.quantization_mode:
            raise ValueError(
                f"{path}: layer {layer.name!r} was quantized by Keras ({mode}), which cannot be converted; convert the "
                "float model with --recipes=int8 instead."
            )
    name = os.path.splitext(os.path.basename(path))[0]
    return loaded, name, saved_source(path)


def _build() -> "tuple[keras.Model, str, dict]":
    from fd_keras.applications import build_by_name

    arch = zoo.get_arch(_MODEL.value, _GROUPS.value, _STEM.value)
    weights, size = _weights(), (_SIZE.value, _SIZE.value)
    network = {"arch": arch.name, "alpha": _ALPHA.value, "size": list(size)}
    if arch.grouped:
        network |= {"groups": arch.groups, "stem_multiplier": arch.stem_alpha(_ALPHA.value)}
    path = weights and weights_lib.resolve(weights, arch, _ALPHA.value)
    built = build_by_name(
        _MODEL.value,
        groups=_GROUPS.value,
        stem_multiplier=_STEM.value,
        alpha=_ALPHA.value,
        input_shape=(*size, 3),
        weights=path,
        include_preprocessing=INCLUDE_PREPROCESSING.value,
    )
    digest = path and sha256_of(path)
    return built, model_name(arch, _ALPHA.value, size), network | {"weights": weights, "weights_sha256": digest}


def settings(recipe: Int8Settings = Int8Settings()) -> Int8Settings:  # noqa: B008, it is frozen
    """The settings of a recipe, by default those of int8, changed by the flags that were given."""
    return dataclasses.replace(recipe, **{name: flag.value for name, flag in _STEPS.items() if flag.present})


def calibration(size: Sequence[int], otherwise: str | None = None) -> Calibration | None:
    """Loads the calibration images that the flags name, cropped to `size`.

    Args:
        size: (height, width, channels) of the images.
        otherwise: Default folder, used without --calibration_dir.

    Returns:
        The images, or None if no folder is given.

    Raises:
        ValueError, OSError: See `load_calibration`.
    """
    folder = CALIBRATION.value or otherwise
    if not folder:
        return None
    return load_calibration(folder, size, _COUNT.value, _ids())

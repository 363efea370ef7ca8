"""Converts a network to .tflite files, each with a .json that says what it is.

    python -m tflite.convert --model=fd_mobilenet --alpha=0.25 --weights=imagenet \
        --recipes=float32,int8 --calibration_dir=photos --output_dir=out

The steps of the int8 recipe can be changed one by one (`--noint8_bias`, `--int8_split=2`); `--report` shows what each
of them brings.
"""

import dataclasses
import os
import sys

import keras
from absl import app, flags, logging

from fd_keras import weights as weights_lib
from fd_keras import zoo
from fd_keras.applications import build_by_name
from fd_keras.saved import load_model
from fd_keras.spec import model_name
from tflite import files
from tflite.c_array import check_recipes, write_c_array
from tflite.export import write
from tflite.labels import check_labels, load_labels
from tflite.measure import Evaluation, ablation, ablation_plot, ablation_table
from tflite.quantize import (
    IO_TYPES,
    RECIPES,
    Calibration,
    Recipe,
    Settings,
    get_recipes,
    load_calibration,
    read_ids,
)
from tflite.sidecar import saved_source

_DEFINE = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float}
_MODEL = flags.DEFINE_enum("model", "fd_mobilenet", list(zoo.ARCHS), "Network to convert.")
_ALPHA = flags.DEFINE_float("alpha", 1.0, "Its width multiplier.")
_SIZE = flags.DEFINE_integer("size", 224, "Side of its square image.")
_GROUPS = flags.DEFINE_integer("groups", None, "Groups of a ShuffleNet (default 3).")
_STEM = flags.DEFINE_float("stem_multiplier", None, "Stem width of a ShuffleNet (default alpha, at least .5).")
_WEIGHTS = flags.DEFINE_string("weights", "imagenet", 'imagenet, imagenet_authors, a path, or "none" (random).')
_KERAS_MODEL = flags.DEFINE_string("keras_model", None, "A saved .keras model to convert instead of --model.")
_RECIPES = flags.DEFINE_list("recipes", ["float32", "int8"], f"What to make: {', '.join(RECIPES)}.")
_CALIBRATION = flags.DEFINE_string("calibration_dir", None, "Folder of training images, for int8.")
_COUNT = flags.DEFINE_integer("calibration_count", 128, "How many of them to take, evenly.", lower_bound=1)
_IDS = flags.DEFINE_string("calibration_ids", None, "File with one image of that folder a line: take these.")
_STEPS = {
    field.name: _DEFINE[type(field.default)](
        f"int8_{field.name}", field.default, "A step of int8: see tflite.quantize."
    )
    for field in dataclasses.fields(Settings)
}
_REPORT = flags.DEFINE_string("report", None, "Folder of images never calibrated on: print what each int8 step brings.")
_LABELS = flags.DEFINE_string("report_labels", None, "Their labels, lines of `image-name label`, for top-1.")
_RESIZE = flags.DEFINE_bool("report_resize", True, "Resize them as for evaluation before the central crop.")
_REPORT_PLOT = flags.DEFINE_string("report_plot", None, "Draw that table into this .png, .svg or .pdf.")
_PREPROCESSING = flags.DEFINE_bool("include_preprocessing", True, "Whether the files take raw RGB 0..255.")
_IO = flags.DEFINE_enum("io", "uint8", IO_TYPES, "Type of the input and output of int8 files.")
_EMBED = flags.DEFINE_string("embed_labels", None, 'Put class names into the files: a text file, or "imagenet".')
_C_ARRAY = flags.DEFINE_bool("c_array", False, "Also write NAME.h and NAME.cc, for microcontrollers.")
_OUTPUT = flags.DEFINE_string("output_dir", None, "Folder to write into.", required=True)


def load(path: str) -> tuple[keras.Model, str, dict]:
    """A saved model, the name for its files, and what identifies it; raises as `load_model`."""
    model = load_model(path)
    name = os.path.splitext(os.path.basename(path))[0]
    return model, name, saved_source(path)


def build() -> tuple[keras.Model, str, dict]:
    """The network that the flags name, the name for its files, and what identifies it."""
    arch = zoo.get_arch(_MODEL.value, _GROUPS.value, _STEM.value)
    weights, size = None if _WEIGHTS.value.lower() == "none" else _WEIGHTS.value, (_SIZE.value, _SIZE.value)
    network = {"arch": arch.name, "alpha": _ALPHA.value, "size": list(size)}
    if arch.grouped:
        network |= {"groups": arch.groups, "stem_multiplier": arch.stem_alpha(_ALPHA.value)}
    path = weights and weights_lib.resolve(weights, arch, _ALPHA.value)
    model = build_by_name(
        _MODEL.value, groups=_GROUPS.value, stem_multiplier=_STEM.value, alpha=_ALPHA.value,
        input_shape=(*size, 3), weights=path, include_preprocessing=_PREPROCESSING.value,
    )  # fmt: skip
    digest = path and files.sha256_of(path)
    return model, model_name(arch, _ALPHA.value, size), network | {"weights": weights, "weights_sha256": digest}


def chosen_recipes() -> list[Recipe]:
    """The recipes that the flags name, with the steps that the flags change."""
    settings = Settings(**{name: flag.value for name, flag in _STEPS.items()})
    return [
        dataclasses.replace(recipe, settings=settings) if recipe.settings else recipe
        for recipe in get_recipes(_RECIPES.value)
    ]


def chosen_calibration(recipes: list[Recipe], size: tuple[int, int]) -> Calibration | None:
    """The calibration images that the flags name, if a recipe needs them."""
    needing = [recipe.name for recipe in recipes if recipe.calibrated]
    if not needing and not _REPORT.value:
        return None
    if not _CALIBRATION.value:
        raise ValueError(f"--recipes={needing[0] if needing else 'int8'} needs --calibration_dir, a folder of images.")
    return load_calibration(_CALIBRATION.value, size, _COUNT.value, _IDS.value and read_ids(_IDS.value))


def chosen_labels(recipes: list[Recipe], classes: int) -> list[str] | None:
    """The class names to put into the files, if the flags ask for that."""
    if not _EMBED.value:
        return None
    names = load_labels(_EMBED.value)
    integers = _IO.value != "float32" and any(recipe.calibrated for recipe in recipes)
    check_labels(names, classes, _PREPROCESSING.value, integers)
    return names


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}; everything is given by flags.")
    logging.set_verbosity(logging.WARNING)  # TensorFlow reports every file that it saves
    try:
        if _REPORT_PLOT.value:
            files.check_figure(_REPORT_PLOT.value)
        recipes = chosen_recipes()
        if _C_ARRAY.value:
            check_recipes(recipes)
        model, name, source = load(_KERAS_MODEL.value) if _KERAS_MODEL.value else build()
        names = chosen_labels(recipes, model.output_shape[-1])
        calibration = chosen_calibration(recipes, model.input_shape[1:3])
        paths = write(
            model, name, source, recipes, _OUTPUT.value, calibration=calibration,
            include_preprocessing=_PREPROCESSING.value, io=_IO.value, class_names=names,
        )  # fmt: skip
        for path in paths:
            for file in (path, *(write_c_array(path) if _C_ARRAY.value else ())):
                print(f"{file}  {os.path.getsize(file) / 1e3:,.0f} kB", flush=True)
        if _REPORT.value:
            images = Evaluation.load(_REPORT.value, _LABELS.value, model.input_shape[1:3], _RESIZE.value)
            rows = ablation(model, calibration, images, _PREPROCESSING.value)
            print(ablation_table(rows))
            if _REPORT_PLOT.value:
                ablation_plot(_REPORT_PLOT.value, rows)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)

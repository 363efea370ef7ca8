r"""Converts a network to .tflite files, each with a .json that describes it.

    fd-keras convert --model=fd_mobilenet --alpha=0.25 --weights=imagenet \
        --recipes=float32,int8 --calibration_dir=PHOTOS --output_dir=OUT

The steps of the int8 recipe can be changed one by one (--noint8_bias, --int8_split=2); --report measures each of them.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from absl import flags, logging

from fd_keras.io import check_figure
from fd_keras.program import Program, UsageError, flag_group
from fd_keras.tflite import model_flags
from fd_keras.tflite.memory.byte_sizes import parse_bytes
from fd_keras.tflite.output import check_file
from fd_keras.tflite.recipes import RECIPES, Calibration, ConversionRecipe, check_recipes, get_recipes

if TYPE_CHECKING:
    import keras

with flag_group("Output"):
    _RECIPES = flags.DEFINE_list("recipes", ["float32", "int8"], f"Files to write: {', '.join(RECIPES)}.")
    _EMBED = flags.DEFINE_string("embed_labels", None, 'Class names to put into the files: a text file, or "imagenet".')
    _MAX_RAM = flags.DEFINE_string("max_ram", None, "RAM of TFLM's arena, as 200KiB: run the first layers in strips.")
    _XNNPACK = flags.DEFINE_bool("xnnpack", True, "Arrange int8 files for phones' CPUs, not microcontrollers or NPUs.")
    _STRIP = flags.DEFINE_bool("strip", False, "Drop what TFLM does not need, such as names: smaller, for flash.")
    _C_ARRAY = flags.DEFINE_bool("c_array", False, "Also write NAME.h and NAME.cc, for microcontrollers.")
flags.adopt_module_key_flags(model_flags)
with flag_group("Report on the int8 recipe"):
    _REPORT = flags.DEFINE_string("report", None, "Folder of images never calibrated on: measure each int8 step.")
    _LABELS = flags.DEFINE_string("report_labels", None, "Their labels, lines of `image-name label`, for top-1.")
    _RESIZE = flags.DEFINE_bool("report_resize", True, "Resize them as for evaluation before the central crop.")
    _REPORT_PLOT = flags.DEFINE_string("report_plot", None, "Draw the report into this .png, .svg or .pdf.")


def chosen_recipes() -> list[ConversionRecipe]:
    """The recipes that the flags name, with the steps that the flags change."""
    return [
        dataclasses.replace(recipe, settings=model_flags.settings()) if recipe.settings else recipe
        for recipe in get_recipes(_RECIPES.value)
    ]


def needing_calibration(recipes: list[ConversionRecipe]) -> list[str]:
    """Names of the recipes that need calibration images; the report is on int8."""
    return [recipe.name for recipe in recipes if recipe.calibrated] + ["int8"] * bool(_REPORT.value)


def check(recipes: list[ConversionRecipe]) -> None:
    """Raises UsageError, ValueError or OSError for flags that cannot work, before anything large is loaded."""
    if _REPORT_PLOT.value:
        check_figure(_REPORT_PLOT.value)
    if _C_ARRAY.value:
        check_recipes(recipes)
    if _MAX_RAM.value:
        check_strips(recipes)
    needing = needing_calibration(recipes)
    if needing and not model_flags.CALIBRATION.value:
        raise UsageError(f"--recipes={needing[0]} needs --calibration_dir, a folder of images")
    if _EMBED.value and _STRIP.value:
        raise UsageError(
            f"--embed_labels={_EMBED.value} adds what --strip drops; pass the names to export-mcu --labels"
        )
    if _EMBED.value and _EMBED.value != "imagenet":
        check_file("embed_labels", _EMBED.value)
    if _LABELS.value:
        check_file("report_labels", _LABELS.value)
    if _REPORT.value and not os.path.exists(_REPORT.value):
        raise FileNotFoundError(f"--report={_REPORT.value}: no such folder")
    model_flags.check()


def check_strips(recipes: list[ConversionRecipe]) -> None:
    """Raises UsageError unless --max_ram is a size, and all recipes compute in integers."""
    parse_bytes("max_ram", _MAX_RAM.value or "")
    floats = [recipe.name for recipe in recipes if not recipe.calibrated]
    if floats:
        raise UsageError(
            f"--max_ram={_MAX_RAM.value}: only files of integers run in strips; leave {floats[0]} out of --recipes"
        )


def into_ram(data: bytes) -> tuple[bytes, dict]:
    """Puts an integer file into strips, if --max_ram needs that, and prints what RAM can be had for which work."""
    from fd_keras.tflite.format.flatbuffer import pack, parse
    from fd_keras.tflite.strips import search

    front = search.trade(parse(data))
    try:
        chosen = search.fitting(front, parse_bytes("max_ram", _MAX_RAM.value or ""))
    except ValueError as error:
        raise ValueError(f"--max_ram={_MAX_RAM.value}: the network {error}") from error
    print(search.table(front, chosen))
    return (pack(chosen.model), {"strips": search.facts(front, chosen)}) if chosen.cuts else (data, {})


Step = Callable[[bytes], tuple[bytes, dict]]  # returns the file with further facts


def finishing() -> Step:
    """The last steps of the files: for a microcontroller's RAM, flash or C array what the flags say, else XNNPACK's."""
    for_board = _C_ARRAY.value or _STRIP.value
    first = into_ram if _MAX_RAM.value else for_xnnpack if _XNNPACK.value and not for_board else None
    return functools.partial(in_turn, [step for step in (first, stripped if _STRIP.value else None) if step])


def in_turn(steps: Sequence[Step], data: bytes) -> tuple[bytes, dict]:
    """What steps make of a file one after the other, and all their facts."""
    facts = {}
    for step in steps:
        data, further = step(data)
        facts |= further
    return data, facts


def stripped(data: bytes) -> tuple[bytes, dict]:
    """The file without what TFLM does not need, and how many bytes it had; the outputs stay the same to the bit."""
    from fd_keras.tflite.format.stripped import strip

    return strip(data), {"stripped": {"size_bytes_before": len(data)}}


def for_xnnpack(data: bytes) -> tuple[bytes, dict]:
    """Has an integer file do more of its work in XNNPACK; the outputs stay the same to the bit."""
    from fd_keras.tflite.int8.camera_bytes import convert_in_xnnpack
    from fd_keras.tflite.int8.packed_pixels import pack_pixels

    return convert_in_xnnpack(pack_pixels(data)), {}


def chosen_labels(recipes: list[ConversionRecipe], classes: int) -> list[str] | None:
    """The class names to put into the files, if the flags ask for that."""
    from fd_keras.tflite.format.metadata import check_labels, load_labels

    if not _EMBED.value:
        return None
    names = load_labels(_EMBED.value)
    integers = model_flags.IO.value != "float32" and any(recipe.calibrated for recipe in recipes)
    check_labels(names, classes, model_flags.INCLUDE_PREPROCESSING.value, integers)
    return names


def report(model: "keras.Model", calibration: Calibration) -> None:
    """Prints and draws the accuracy of the int8 recipe, step by step."""
    from fd_keras.tflite.export import fixed_size
    from fd_keras.tflite.verification.ablation import ablation, ablation_plot, ablation_table
    from fd_keras.tflite.verification.evaluation_set import EvaluationSet

    classes = model.output_shape[-1]
    images = EvaluationSet.load(_REPORT.value or "", _LABELS.value, fixed_size(model), classes, _RESIZE.value)
    rows = ablation(model, calibration, images, model_flags.INCLUDE_PREPROCESSING.value)
    print(ablation_table(rows))
    if _REPORT_PLOT.value:
        ablation_plot(_REPORT_PLOT.value, rows)


def main(argv: list[str]) -> None:
    """Writes the files and prints a line for each."""
    recipes = chosen_recipes()
    check(recipes)
    from fd_keras.tflite import model_card
    from fd_keras.tflite.export import fixed_size, write
    from fd_keras.tflite.memory.c_array import write_c_array

    logging.set_verbosity(logging.WARNING)  # TensorFlow reports every file that it saves
    model, name, source = model_flags.model()
    names = chosen_labels(recipes, model.output_shape[-1])
    calibration = model_flags.calibration(fixed_size(model)) if needing_calibration(recipes) else None
    paths = write(
        model,
        name,
        source,
        recipes,
        model_flags.OUTPUT_DIR.value,
        calibration=calibration,
        include_preprocessing=model_flags.INCLUDE_PREPROCESSING.value,
        io=model_flags.IO.value,
        class_names=names,
        finish=finishing(),
    )
    written = []
    for path in paths:
        written.append(path)
        for file in (path, *(write_c_array(path) if _C_ARRAY.value else ())):
            print(f"{file}  {os.path.getsize(file) / 1e3:,.0f} kB", flush=True)
    print(model_card.write(written))
    if _REPORT.value and calibration:
        report(model, calibration)
    print(model_flags.goes_on(written))


PROGRAM = Program(main)

if __name__ == "__main__":
    PROGRAM.run()

r"""Converts a network to .tflite files, and writes a .json that describes each file.

    fd-keras convert --model=fd_mobilenet --alpha=0.25 --weights=imagenet \
        --recipes=float32,int8 --calibration_dir=PHOTOS --output_dir=OUT

The steps of the int8 recipe can be changed one by one (--noint8_bias, --int8_split=2); --report measures each of them.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from absl import flags, logging

from fd_keras.io import check_figure, join
from fd_keras.next_step import next_line, unused
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
    _MAX_RAM = flags.DEFINE_string("max_ram", None, "Limit of TFLM's arena, as 200KiB; strips are used if needed.")
    _XNNPACK = flags.DEFINE_bool("xnnpack", True, "Arrange int8 files for phone CPUs, not microcontrollers or NPUs.")
    _STRIP = flags.DEFINE_bool("strip", False, "Save flash: remove data that TFLM does not need, such as names.")
    _C_ARRAY = flags.DEFINE_bool("c_array", False, "Also write NAME.h and NAME.cc, for microcontrollers.")
flags.adopt_module_key_flags(model_flags)
with flag_group("Report on the int8 recipe"):
    _REPORT = flags.DEFINE_string("report", None, "Measure each int8 step on the images in this folder.")
    _LABELS = flags.DEFINE_string("report_labels", None, "Labels for --report, for top-1: lines of `image-name label`.")
    _RESIZE = flags.DEFINE_bool("report_resize", True, "For --report: resize as for evaluation before the crop.")
    _REPORT_PLOT = flags.DEFINE_string("report_plot", None, "Plot the report to this .png, .svg or .pdf.")


def chosen_recipes() -> list[ConversionRecipe]:
    """The recipes in --recipes, with the settings that were given as flags."""
    return [
        dataclasses.replace(recipe, settings=model_flags.settings(recipe.settings)) if recipe.settings else recipe
        for recipe in get_recipes(_RECIPES.value)
    ]


def needing_calibration(recipes: list[ConversionRecipe]) -> list[str]:
    """Names of the recipes that need calibration images, including int8 for --report."""
    return [recipe.name for recipe in recipes if recipe.calibrated] + ["int8"] * bool(_REPORT.value)


def check(recipes: list[ConversionRecipe]) -> None:
    """Validates the flags before TensorFlow is loaded.

    Raises:
        UsageError, ValueError: If a flag is invalid, or flags contradict each other.
        OSError: If a file or folder does not exist.
    """
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
            f"--embed_labels={_EMBED.value} adds names, which --strip removes; pass them to export-mcu --labels instead"
        )
    if _EMBED.value and _EMBED.value != "imagenet":
        check_file("embed_labels", _EMBED.value)
    if _LABELS.value:
        check_file("report_labels", _LABELS.value)
    if _REPORT.value and not os.path.exists(_REPORT.value):
        raise FileNotFoundError(f"--report={_REPORT.value}: no such folder")
    model_flags.check()


def check_strips(recipes: list[ConversionRecipe]) -> None:
    """Raises UsageError unless --max_ram is a size and all recipes are int8 or int4."""
    parse_bytes("max_ram", _MAX_RAM.value or "")
    floats = [recipe.name for recipe in recipes if not recipe.calibrated]
    if floats:
        raise UsageError(
            f"--max_ram={_MAX_RAM.value}: only integer files run in strips; remove {floats[0]} from --recipes"
        )


def into_ram(data: bytes) -> tuple[bytes, dict]:
    """Splits an integer file into strips if it exceeds --max_ram, and prints the RAM and MACs of each alternative.

    Returns:
        The file, and facts about its strips for the .json.

    Raises:
        ValueError: If no number of strips fits into --max_ram.
    """
    from fd_keras.tflite.format.flatbuffer import pack, parse
    from fd_keras.tflite.strips import search

    front = search.trade(parse(data))
    try:
        chosen = search.fitting(front, parse_bytes("max_ram", _MAX_RAM.value or ""))
    except ValueError as error:
        raise ValueError(f"--max_ram={_MAX_RAM.value}: the network {error}") from error
    print(search.table(front, chosen))
    return (pack(chosen.model), {"strips": search.facts(front, chosen)}) if chosen.cuts else (data, {})


Step = Callable[[bytes], tuple[bytes, dict]]  # takes a file; returns the new file, and facts for its .json


def is_for_microcontroller(recipe: ConversionRecipe) -> bool:
    """Whether a file is for a microcontroller: by the flags, or by int4 weights, which XNNPACK does not support."""
    return bool(_MAX_RAM.value or _STRIP.value or _C_ARRAY.value or recipe.weights == "int4")


def steps(recipe: ConversionRecipe) -> list[Step]:
    """The steps after conversion: strips and stripping for microcontrollers if the flags ask for them, else XNNPACK."""
    for_phone = _XNNPACK.value and not is_for_microcontroller(recipe)
    chosen = {into_ram: _MAX_RAM.value, for_xnnpack: for_phone, stripped: _STRIP.value}
    return [step for step, is_wanted in chosen.items() if is_wanted]


def finish(recipe: ConversionRecipe, data: bytes) -> tuple[bytes, dict]:
    """Runs the steps after conversion on a file; returns the new file, and the facts of all steps."""
    facts = {}
    for step in steps(recipe):
        data, further = step(data)
        facts |= further
    return data, facts


def stripped(data: bytes) -> tuple[bytes, dict]:
    """Removes data that TFLM does not need; returns the file, and its size before. The outputs are bit-identical."""
    from fd_keras.tflite.format.stripped import strip

    return strip(data), {"stripped": {"size_bytes_before": len(data)}}


def for_xnnpack(data: bytes) -> tuple[bytes, dict]:
    """Rewrites an integer file so that XNNPACK runs more of it; the outputs are bit-identical."""
    from fd_keras.tflite.int8.camera_bytes import convert_in_xnnpack
    from fd_keras.tflite.int8.packed_pixels import pack_pixels

    return convert_in_xnnpack(pack_pixels(data)), {}


def chosen_labels(recipes: list[ConversionRecipe], classes: int) -> list[str] | None:
    """The class names of --embed_labels; None without the flag."""
    from fd_keras.tflite.format.metadata import check_labels, load_labels

    if not _EMBED.value:
        return None
    names = load_labels(_EMBED.value)
    integers = model_flags.IO.value != "float32" and any(recipe.calibrated for recipe in recipes)
    check_labels(names, classes, model_flags.INCLUDE_PREPROCESSING.value, integers)
    return names


def report(model: "keras.Model", calibration: Calibration) -> None:
    """Prints and plots the accuracy of the int8 recipe, step by step."""
    from fd_keras.tflite.export import fixed_size
    from fd_keras.tflite.verification.ablation import ablation, ablation_plot, ablation_table
    from fd_keras.tflite.verification.evaluation_set import EvaluationSet

    classes = model.output_shape[-1]
    images = EvaluationSet.load(_REPORT.value or "", _LABELS.value, fixed_size(model), classes, _RESIZE.value)
    rows = ablation(model, calibration, images, model_flags.INCLUDE_PREPROCESSING.value)
    print(ablation_table(rows))
    if _REPORT_PLOT.value:
        ablation_plot(_REPORT_PLOT.value, rows)


def closing(recipes: list[ConversionRecipe], paths: Sequence[str]) -> str:
    """Formats the line with the next command: `export-mcu` for a file that it accepts, else as for phones."""
    takes_bytes = model_flags.IO.value != "float32" and model_flags.INCLUDE_PREPROCESSING.value
    pairs = zip(recipes, paths, strict=True)
    fitting = [path for recipe, path in pairs if recipe.calibrated and takes_bytes and is_for_microcontroller(recipe)]
    if not fitting:
        return model_flags.goes_on(paths)
    project = unused(join(model_flags.OUTPUT_DIR.value, "microcontroller"))
    return next_line("export-mcu", fitting[-1], output_dir=project)


def main(argv: list[str]) -> None:
    """Writes the files and prints the path and size of each."""
    recipes = chosen_recipes()
    check(recipes)
    from fd_keras.tflite import model_card
    from fd_keras.tflite.export import fixed_size, write
    from fd_keras.tflite.memory.c_array import write_c_array

    logging.set_verbosity(logging.WARNING)  # otherwise TensorFlow logs every file that it saves
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
        finish=finish,
    )
    written = []
    for path in paths:
        written.append(path)
        for file in (path, *(write_c_array(path) if _C_ARRAY.value else ())):
            print(f"{file}  {os.path.getsize(file) / 1e3:,.0f} kB", flush=True)
    print(model_card.write(written))
    if _REPORT.value and calibration:
        report(model, calibration)
    print(closing(recipes, written))


PROGRAM = Program(main)

if __name__ == "__main__":
    PROGRAM.run()

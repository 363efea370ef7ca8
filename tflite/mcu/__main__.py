"""Writes a microcontroller project for a .tflite file: C++ for TensorFlow Lite Micro (TFLM), with a self-test.

    fd-keras export-mcu out/fd_mobilenet_0.25_128_int8.tflite --output_dir=project --photo=cat.jpg --board=nucleo-h743zi

The project contains the file as a C++ array with class names, arena size and ops; a function that converts camera
frames (RGB565, RGB888) to the network's input; a self-test on a stored frame; and build files for a computer, STM32
(CMake) and ESP32-S3 (ESP-IDF). Its README.md has the commands.
"""

import os
import re
import shlex

from absl import flags

from fd_keras.io import write_folder
from fd_keras.program import Program, UsageError, flag_group
from fd_keras.tflite.memory import boards
from fd_keras.tflite.memory.byte_sizes import kib, parse_bytes
from fd_keras.tflite.output import check_file

_README = "README.md"
_SIDES = (16, 8192)

with flag_group("Project"):
    _OUTPUT = flags.DEFINE_string("output_dir", None, "Folder for the project, which must not exist.", required=True)
    _LABELS = flags.DEFINE_string("labels", None, "Text file of one class name per line (default: the file's own).")
    _BOARD = flags.DEFINE_string("board", None, f"Board to check the memory of: {', '.join(boards.BOARDS)}.")
    _RESERVE = flags.DEFINE_string("reserve", boards.RESERVED, "Board RAM to keep free for camera, stack and program.")
    _CAMERA = flags.DEFINE_string("camera", "320x240", "Maximum size of camera frames, WIDTHxHEIGHT.")
    _PHOTO = flags.DEFINE_string("photo", None, "Photo for the self-test (default: a disk on a gradient).")


def camera_size() -> tuple[int, int]:
    """Parses --camera as (width, height)."""
    found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", _CAMERA.value)
    if not found or not all(_SIDES[0] <= int(side) <= _SIDES[1] for side in found.groups()):
        raise UsageError(
            f"--camera={_CAMERA.value}: must be WIDTHxHEIGHT, both between {_SIDES[0]} and {_SIDES[1]}, such as 320x240"
        )
    return int(found[1]), int(found[2])


def check(arguments: list[str]) -> str:
    """Validates the arguments and flags; returns the file's path.

    Raises:
        UsageError: If the arguments are not one .tflite file.
        OSError: If the output folder exists, or a file does not.
    """
    if len(arguments) != 1 or not arguments[0].endswith(".tflite"):
        given = " ".join(arguments) or "none"
        raise UsageError(f"pass one int8 .tflite file, as fd-keras finetune and convert write it, not {given!r}")
    if os.path.lexists(_OUTPUT.value):
        raise FileExistsError(f"--output_dir={_OUTPUT.value}: already exists; pass another folder, or remove it")
    for flag in (_PHOTO, _LABELS):
        if flag.value:
            check_file(flag.name, flag.value)
    return arguments[0]


def labels_of(path: str, classes: int) -> tuple[str, ...]:
    """The class names; if they are unknown, ImageNet's if their number matches, else numbers, with a note."""
    from fd_keras import class_names, imagenet

    if names := class_names.names_of(path, classes, _LABELS.value):
        return names
    numbers = tuple(f"class {number}" for number in range(classes))
    names, what = (imagenet.class_names(), "ImageNet's") if classes == imagenet.CLASSES else (numbers, "numbers")
    print(f"note: the class names are unknown; using {what} (pass others with --labels)")
    return names


def main(argv: list[str]) -> None:
    """Writes the project and prints its flash and RAM."""
    camera, path = camera_size(), check(argv)
    board, reserve = _BOARD.value and boards.get_board(_BOARD.value), parse_bytes("reserve", _RESERVE.value)
    from fd_keras.tflite.mcu import project, reference

    file = project.NetworkFile(path)
    labels = labels_of(path, file.runner.classes)
    frame = reference.frame_of(_PHOTO.value, *camera)
    write_folder(_OUTPUT.value, project.project(file, labels, frame, camera))
    print(f"{path}: {kib(file.content.bytes)} of flash, {project.ram_note(file.content)}")
    if board:
        fit = boards.BoardFit.of(board, file.content.network, file.content.bytes, reserve)
        print(fit.text())
        if not fit.fits:
            print(f"warning: {path} does not fit on this board")
    print(f"next: cat {shlex.quote(os.path.join(_OUTPUT.value, _README))}")


PROGRAM = Program(main, "FILE.tflite")

if __name__ == "__main__":
    PROGRAM.run()

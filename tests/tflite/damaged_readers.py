"""Damages a .tflite file at random and reads it: `python damaged_readers.py FILE FOLDER FIRST COUNT SECONDS`.

Runs in a separate process, since LiteRT may abort on unexpected input. Prints the number of each damaged file before
it is read, and at the end the counts of files that were read and that were rejected.
"""

import collections
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fd_keras import litert
from fd_keras.tflite.format import flatbuffer
from fd_keras.tflite.memory import arena, c_array, report
from tests.damage import damage_bytes

_INTEGERS = (-(2**31), -2, -1, 0, 1, 2, 3, 7, 64, 127, 255, 1000, 65536, 2**30, 2**31 - 1)
_REALS = (0.0, -1.0, float("nan"), float("inf"), 1e30, 1e-30)


# --- damage ------------------------------------------------------------------------------------------------


def with_field(rng: random.Random, content: bytes) -> bytes:
    """Changes one or two fields of the tables; the flatbuffer stays well formed."""
    model = flatbuffer.parse(content)
    for _ in range(rng.choice((1, 1, 2))):
        table, name = rng.choice(list(_fields(model)))
        setattr(table, name, _other(rng, getattr(table, name)))
    try:
        return flatbuffer.pack(model)
    except (TypeError, ValueError, OverflowError):  # no number of that type
        return damage_bytes(rng, content)


def _fields(table: Any):
    """The fields of a table and of those inside it that have a value."""
    for name, value in vars(table).items():
        if value is None or isinstance(value, bytes | str):
            continue
        inner = value if isinstance(value, list) else [value]
        for item in inner:
            if hasattr(item, "__dict__"):
                yield from _fields(item)
        if not hasattr(value, "__dict__") and np.size(value):
            yield table, name


def _other(rng: random.Random, value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((*_INTEGERS, value - 1, value + 1))
    if isinstance(value, float):
        return rng.choice(_REALS)
    items = list(value)
    how, place = rng.choice(("shorter", "longer", "swapped", "other")), rng.randrange(len(items))
    if how == "other" and not hasattr(items[0], "__dict__"):
        items[place] = rng.choice(_REALS if isinstance(items[0], np.floating) else (0, 1, 127))
    elif how == "shorter":
        del items[place]
    elif how == "longer":
        items.append(items[place])
    else:
        other = rng.randrange(len(items))
        items[place], items[other] = items[other], items[place]
    return items if hasattr(value[0], "__dict__") else np.array(items, value.dtype)


# --- readers -----------------------------------------------------------------------------------------------


def run(path: str) -> None:
    """Runs the file, like verify, classify and evaluate."""
    runner = litert.Runner(path)
    runner(np.zeros((1, *runner.input_shape), "float32"))


def plan(path: str) -> None:
    """Plans the memory, like `fd-keras memory`."""
    file = flatbuffer.read(path)
    report.tables(report.report(path, file, arena.plan(file.network)), "fits")


def write_array(path: str) -> None:
    """Writes the C++ array, like `convert --c_array`."""
    list(c_array.write_c_array(path))


READERS: tuple[Callable, ...] = (run, plan, write_array, litert.read_weights)
DAMAGES = (damage_bytes, with_field)


def outcome(reader: Callable, path: str) -> str:
    """Returns "read" or "rejected"; raises any error that is not a single line with the file's name."""
    reason = ""
    try:
        reader(path)
    except ValueError as error:
        reason = str(error)
    assert not reason or (os.path.basename(path) in reason and "\n" not in reason), reason
    return "rejected" if reason else "read"


def main(source: str, folder: str, first: str, count: str, seconds: str) -> None:
    """Reads damaged files until both the count and the time are reached."""
    with open(source, "rb") as file:
        content = file.read()
    path, found, end = os.path.join(folder, "damaged.tflite"), collections.Counter(), time.monotonic() + float(seconds)
    number = int(first)
    while number < int(first) + int(count) or time.monotonic() < end:
        print(number, flush=True)
        rng = random.Random(number)
        with open(path, "wb") as file:
            file.write(rng.choice(DAMAGES)(rng, content))
        found.update(outcome(reader, path) for reader in READERS)
        number += 1
    print(dict(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

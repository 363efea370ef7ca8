"""Counts what a model executes; runs inside the emulator, on LiteRT for ARM (see emulator_plugin.c).

    main("MODEL.tflite", "ops")

prints one line of JSON: `counts` per inference by counter, `invocations` (the number of inferences averaged),
`unstable` (the counters that did not stabilize) and `ops`, the counts of each op as [type, name, counts]; empty
without "ops".
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import BenchError
from .host_profiler import ProfiledModel
from .host_target import load, no_garbage_collection
from .models import read_model
from .plan import Job
from .schema import COUNTERS

SHORT, LONG = 1, 3  # invocations in the two runs whose counts are subtracted
TOLERANCE = 0.01  # maximum relative difference between two results that agree
_SLACK = 100  # counts; 1% of a small count would be less than the noise of Python itself
_ATTEMPTS = 8
_START, _READ, _SELECT = 0x46430000, 0x46440000, 0x46450000  # clocks of the plugin

Counts = dict[str, int]


def read_counts() -> Counts:
    """Returns the counts since the start of the counting."""
    return {name: time.clock_gettime_ns(_READ + number) for number, name in enumerate(COUNTERS)}


def start() -> None:
    """Starts counting, and waits until the emulator counts."""
    time.clock_gettime_ns(_START)
    while not read_counts()["instructions"]:
        pass


def count_run(invoke: Callable[[], object], invocations: int, read: Callable[[], Counts] = read_counts) -> Counts:
    """Returns the counts of a run, including the cost of reading the counters."""
    before = read()
    for _ in range(invocations):
        invoke()
    after = read()
    return {name: after[name] - before[name] for name in before}


def difference(short: Mapping[str, int], long: Mapping[str, int]) -> Counts:
    """Returns the counts per inference; overhead that both runs share, such as reading the counters, cancels out.

    If a model causes almost no counts, such as misses of a large cache, the difference may be negative; it becomes 0.
    """
    return {name: max(0, round((long[name] - short[name]) / (LONG - SHORT))) for name in short}


def unstable(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """Returns the counters whose counts differ by more than `TOLERANCE`."""
    return [name for name in after if abs(after[name] - before[name]) > max(_SLACK, TOLERANCE * after[name])]


def count(invoke: Callable[[], object], read: Callable[[], Counts] = read_counts) -> dict[str, Any]:
    """Counts an inference repeatedly, until two results in a row agree.

    Returns:
        `counts`, `invocations` and `unstable`; see the module's docstring.
    """
    latest: Counts = {}
    moving = list(COUNTERS)
    for _ in range(_ATTEMPTS):
        previous, latest = latest, difference(count_run(invoke, SHORT, read), count_run(invoke, LONG, read))
        moving = unstable(previous, latest) if previous else moving
        if previous and not moving:
            break
    return {"counts": latest, "invocations": LONG - SHORT, "unstable": moving}


def count_ops(path: str) -> list[tuple[str, str, Counts]]:
    """Returns type, name and counts of each op, by running LiteRT's profiler on the plugin's clock once per counter."""
    model = ProfiledModel(path, threads=1)
    by_counter = {}
    for number, name in enumerate(COUNTERS):
        time.clock_gettime_ns(_SELECT + number)
        by_counter[name] = model.invoke()[1]
    time.clock_gettime_ns(_SELECT)
    rows = zip(*by_counter.values(), strict=True)
    return [
        (ops[0][0], f"op {number}", {name: op[1] for name, op in zip(by_counter, ops, strict=True)})
        for number, ops in enumerate(rows)
    ]


def main(path: str, *extras: str) -> None:
    """Prints the counts of a model; see the module's docstring."""
    try:
        interpreter = load(Job(read_model(Path(path))))
        start()
        with no_garbage_collection():
            found = count(interpreter.invoke)
        ops: Sequence[Any] = count_ops(path) if "ops" in extras else ()
        print(json.dumps({**found, "ops": ops}))
    except (BenchError, ValueError, RuntimeError, OSError) as error:
        sys.exit(str(error))

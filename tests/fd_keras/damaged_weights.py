"""Damages weight files at random and reads them: damaged_weights.py FOLDER FIRST COUNT SECONDS FILE...

Runs in a separate process, since a damaged HDF5 file may crash the library. Prints the number of each damaged file
before reading it, and finally how many were read and how many rejected.
"""

import collections
import os
import pathlib
import random
import resource
import sys
import time

from fd_keras import checkpoints, spec, zoo
from tests.damage import damage_bytes

MEMORY = 4 << 30  # limit of additional address space in bytes; the files have a few 100 kB


def outcome(path: str, ops) -> str:
    """Reads a file; returns "read" or "rejected". The error message must be one line that starts with the path."""
    reason = ""
    try:
        checkpoints.read(path, ops)
    except checkpoints.CheckpointError as error:
        reason = str(error)
    assert not reason or (reason.startswith(path) and "\n" not in reason), reason
    return "rejected" if reason else "read"


def main(folder: str, first: str, count: str, seconds: str, *sources: str) -> None:
    """Reads damaged files until both the count and the time are reached."""
    ops = spec.lower(zoo.get_arch("fd_mobilenet"), 0.05, (64, 64), classes=7)
    contents = {source.name: source.read_bytes() for source in map(pathlib.Path, sources)}
    for source in sources:
        assert outcome(source, ops) == "read"
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    found, end, number = collections.Counter(), time.monotonic() + float(seconds), int(first)
    while number < int(first) + int(count) or time.monotonic() < end:
        print(number, flush=True)
        rng = random.Random(number)
        name = rng.choice(sorted(contents))
        path = os.path.join(folder, f"damaged-{name}")
        with open(path, "wb") as file:
            file.write(damage_bytes(rng, contents[name]))
        found[f"{name} {outcome(path, ops)}"] += 1
        number += 1
    print(dict(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

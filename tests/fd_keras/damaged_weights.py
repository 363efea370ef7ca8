"""Damages files of weights at random and reads them: damaged_weights.py FOLDER FIRST COUNT SECONDS FILE...

A process of its own, since a damaged HDF5 file may crash the library that reads it. Prints the number of each damaged
file before it is read, and in the end how many were read and how many refused.
"""

import collections
import os
import pathlib
import random
import resource
import sys
import time

from fd_keras import checkpoints, spec, zoo

MEMORY = 4 << 30  # bytes of address space above today's; files are of a few 100 kB
WORST = (0, 1, 127, 128, 255)


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Some bytes are others, a stretch is gone or zeros, or a stretch is there twice."""
    how = rng.choice(("bytes", "bytes", "head", "gap", "zeros", "twice", "end"))
    start = rng.randrange(len(content))
    length = rng.randrange(1, 1 + min(4096, len(content) - start))
    if how in ("bytes", "head"):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 8))):
            place = rng.randrange(len(content) if how == "bytes" else min(2048, len(content)))  # headers are in front
            changed[place] = rng.choice((*WORST, changed[place] ^ 1 << rng.randrange(8)))
        return bytes(changed)
    middle = {"gap": b"", "zeros": bytes(length), "twice": 2 * content[start : start + length]}
    return content[:start] if how == "end" else content[:start] + middle[how] + content[start + length :]


def outcome(path: str, ops) -> str:
    """ "read" or "refused"; raises whatever is not one line that names the file."""
    reason = ""
    try:
        checkpoints.read(path, ops)
    except checkpoints.CheckpointError as error:
        reason = str(error)
    assert not reason or (reason.startswith(path) and "\n" not in reason), reason
    return "refused" if reason else "read"


def main(folder: str, first: str, count: str, seconds: str, *sources: str) -> None:
    """Reads damaged files until both the count and the time are used up."""
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
            file.write(damaged(rng, contents[name]))
        found[f"{name} {outcome(path, ops)}"] += 1
        number += 1
    print(dict(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

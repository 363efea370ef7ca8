"""Damages the bytes of a file at random, for tests of readers."""

import random

_WORST = (0, 1, 127, 128, 255)
_HEAD = 2048  # bytes at the start, where headers are
_LONGEST = 4096  # maximum number of bytes that are removed, zeroed or repeated


def damage_bytes(rng: random.Random, content: bytes) -> bytes:
    """Changes single bytes, removes, zeroes or repeats a range, or truncates the content."""
    how = rng.choice(("bytes", "bytes", "head", "gap", "zeros", "twice", "end"))
    start = rng.randrange(len(content))
    length = rng.randrange(1, 1 + min(_LONGEST, len(content) - start))
    if how in ("bytes", "head"):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 8))):
            place = rng.randrange(len(content) if how == "bytes" else min(_HEAD, len(content)))
            changed[place] = rng.choice((*_WORST, changed[place] ^ 1 << rng.randrange(8)))
        return bytes(changed)
    middle = {"gap": b"", "zeros": bytes(length), "twice": 2 * content[start : start + length]}
    return content[:start] if how == "end" else content[:start] + middle[how] + content[start + length :]

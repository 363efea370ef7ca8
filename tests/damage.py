"""Random damage to the bytes of a file, for tests of its readers."""

import random

_WORST = (0, 1, 127, 128, 255)
_HEAD = 2048  # bytes in front, where headers are
_LONGEST = 4096  # bytes of a stretch that is lost or repeated


def damage_bytes(rng: random.Random, content: bytes) -> bytes:
    """Some bytes are others, a stretch is gone or zeros, or a stretch is there twice."""
    how = rng.choice(("bytes", "bytes", "head", "gap", "zeros", "twice", "end"))
    start = rng.randrange(len(content))
    length = rng.randrange(1, 1 + min(_LONGEST, len(content) - start))
    if how in ("bytes", "head"):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 8))):
            place = rng.randrange(len(content) if how == "bytes" else min(_HEAD, len(content)))  # headers are in front
            changed[place] = rng.choice((*_WORST, changed[place] ^ 1 << rng.randrange(8)))
        return bytes(changed)
    middle = {"gap": b"", "zeros": bytes(length), "twice": 2 * content[start : start + length]}
    return content[:start] if how == "end" else content[:start] + middle[how] + content[start + length :]

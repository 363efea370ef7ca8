"""Parses and formats sizes in bytes, such as 256KiB."""

import re

from fd_keras.errors import UsageError

_UNITS = {"b": 1, "kib": 2**10, "mib": 2**20, "kb": 10**3, "mb": 10**6}
_LARGEST = 2**40


def parse_bytes(flag: str, text: str) -> int:
    """Parses a size such as 256KiB, 1.5MiB, 300kB or 262144B to bytes; raises UsageError, naming the flag."""
    found = re.fullmatch(r"([0-9]+\.?[0-9]*)\s*([a-z]*)", text.strip().lower())
    if found and not found[2]:
        raise UsageError(f"--{flag}={text}: unit missing; write {text}KiB, {text}MiB or {text}B")
    if not found or found[2] not in _UNITS:
        raise UsageError(f"--{flag}={text}: not a size; write one like 256KiB, 1.5MiB or 262144B")
    size = float(found[1]) * _UNITS[found[2]]
    if not 1 <= size <= _LARGEST:
        raise UsageError(f"--{flag}={text}: must be between 1 byte and {_LARGEST >> 30} GiB")
    return int(size)


def kib(number: int) -> str:
    """Formats bytes as KiB."""
    return f"{number / 1024:.1f} KiB"

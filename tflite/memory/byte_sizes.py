"""Sizes in bytes, as people write and read them."""

import re

_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "kb": 10**3, "mb": 10**6}


def parse_bytes(flag: str, text: str) -> int:
    """Bytes of a size like 256KiB, 1.5MiB, 300kB or 262144; raises ValueError that names the flag."""
    found = re.fullmatch(r"(\d+\.?\d*)\s*([a-z]*)", text.strip().lower())
    if not found or found[2] not in _UNITS:
        raise ValueError(f"--{flag}={text}: not a size; write one like 256KiB, 1.5MiB or 262144.")
    return int(float(found[1]) * _UNITS[found[2]])


def kib(number: int) -> str:
    """Bytes as KiB."""
    return f"{number / 1024:.1f} KiB"

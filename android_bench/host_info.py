"""Facts about this machine; unknown facts are None or "unknown"."""

import os
import platform
from pathlib import Path
from typing import Any

from .rows import utc_now

_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def environment(engine: str) -> dict[str, Any]:
    """Returns the facts about this machine that are stored in the results.

    Args:
        engine: Name and version of the interpreter.
    """
    return {
        "device": cpu_name(),
        "kind": "host",
        "cores": count_cores(),
        "governor": next(iter(_read(_GOVERNOR).splitlines()), None),
        "engine": engine,
        "delegate": "LiteRT's default (XNNPACK)",
        "python": platform.python_version(),
        "os": platform.platform(),
        "date": utc_now(),
    }


def cpu_name() -> str:
    """Returns the name of the processor."""
    return _field(_CPUINFO, "model name") or platform.processor() or platform.machine() or "unknown"


def count_cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_average() -> float | None:
    """Returns the load average over the last minute; None if the system does not report it."""
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


def available_memory() -> int | None:
    """Returns the available memory in bytes; None if the system does not report it."""
    kilobytes = _field(_MEMINFO, "MemAvailable").removesuffix("kB").strip()
    return int(kilobytes) * 1024 if kilobytes.isdigit() else None


def _field(path: Path, name: str) -> str:
    """Returns the first value of a name in a file of `name : value` lines; "" if there is none."""
    for line in _read(path).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

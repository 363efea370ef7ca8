"""Choosing the cores of a device to run on."""

from collections.abc import Iterable, Sequence
from typing import Any

from .errors import BenchError
from .plan import ANY_CORE


def choose_cores(facts: dict[str, Any], choice: str, threads: int) -> tuple[list[int], list[str]]:
    """Chooses the cores to run on.

    Args:
        facts: See `device_info.read_facts`.
        choice: `big`, `little`, a hexadecimal mask, or `any`.
        threads: Number of threads; if one kind has too few cores, cores of the next kind are added.

    Returns:
        Numbers of the cores, empty for any, and warnings.

    Raises:
        BenchError: If a mask includes a core that does not exist, or the device cannot pin processes.
    """
    if choice == ANY_CORE:
        return [], []
    if choice not in ("big", "little"):
        cores = _cores_of_mask(facts, choice)
        return cores, _few_cores(cores, threads, f"--core={choice}")
    if not facts["taskset"]:
        return [], [f"the device has no taskset: --core={choice} has no effect, the system chooses the core"]
    if not facts["cores"]:
        return [], [f"the device does not list its cores: --core={choice} has no effect"]
    ordered, cluster, warnings = _order(facts["cores"], choice)
    chosen = sorted(ordered[:threads])
    if len(chosen) > cluster:
        most, names = "fastest" if choice == "big" else "slowest", ", ".join(map(str, chosen))
        few = f"the {cluster} {choice} core{'s' * (cluster > 1)}"
        warnings.append(f"{threads} threads do not fit on {few}: pinned to the {len(chosen)} {most} cores, {names}")
    return chosen, warnings + _few_cores(chosen, threads, f"--core={choice}")


def taskset_mask(cores: Iterable[int]) -> str:
    """Returns cores in the format of a phone's `taskset`: a hexadecimal mask without 0x."""
    return f"{sum(1 << core for core in cores):x}"


def describe_cores(cores: Sequence[dict[str, Any]]) -> str:
    """Describes cores, such as `4 x 1.80 GHz + 4 x 2.40 GHz`."""
    clocks: dict[int | None, int] = {}
    for core in cores:
        clocks[core["khz"]] = clocks.get(core["khz"], 0) + 1
    words = [f"{count} x {khz / 1e6:.2f} GHz" for khz, count in sorted(clocks.items(), key=str) if khz]
    return " + ".join(words) if words else f"{len(cores)}" if cores else "unknown"


def _cores_of_mask(facts: dict[str, Any], choice: str) -> list[int]:
    mask, online = int(choice, 16), [core["number"] for core in facts["cores"]]
    cores = [bit for bit in range(mask.bit_length()) if mask >> bit & 1]
    absent = [core for core in cores if online and core not in online]
    if absent:
        known = ", ".join(map(str, online))
        raise BenchError(f"--core={choice} includes core {absent[0]}, but {facts['name']} has cores {known}")
    if not facts["taskset"]:
        raise BenchError(f"--core={choice}: {facts['name']} has no taskset; use --core={ANY_CORE}")
    return cores


def _few_cores(cores: Sequence[int], threads: int, choice: str) -> list[str]:
    if len(cores) >= threads:
        return []
    return [f"{threads} threads on {len(cores)} core{'s' * (len(cores) > 1)} ({choice}): threads wait for each other"]


def _order(cores: Sequence[dict[str, Any]], choice: str) -> tuple[list[int], int, list[str]]:
    """Returns the cores (fastest or slowest first), the number of cores as fast as the first, and warnings."""
    speeds = {core["number"]: (core["capacity"] or 0, core["khz"] or 0) for core in cores}
    warnings = []
    if not all(map(_has_speed, cores)):
        one = "the last" if choice == "big" else "the first"
        warnings.append(f"the device does not report how fast its cores are: --core={choice} takes {one} one")
        speeds = dict.fromkeys(speeds, (0, 0))
    ordered = sorted(speeds, key=lambda number: (speeds[number], number), reverse=choice == "big")
    return ordered, sum(speed == speeds[ordered[0]] for speed in speeds.values()), warnings


def _has_speed(core: dict[str, Any]) -> bool:
    """Whether the capacity or clock is known; capacity takes precedence, since a big core may have the lower clock."""
    return core["capacity"] is not None or core["khz"] is not None

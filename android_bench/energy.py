"""Energy of an inference: the battery's power while a model runs, minus its power while the device is idle."""

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from .errors import BenchError
from .power_supply import Reading, check_discharging

ENERGY = "energy"  # kind of a launch
NOTES = (
    "mJ: energy of an inference in excess of the idle device, from the battery's fuel gauge",
    "±: two standard errors, including drift of the idle power, but not the gauge's own error",
)
_SETTLING = 0.2  # share of the readings to drop at the start, since a gauge averages
_MIN_UPDATES = 3  # minimum number of new gauge values while the model runs
_LOST_SHARE = 0.1  # maximum share of readings without a value
_LARGEST_MA = 10_000  # a phone draws 10 mA to 10 A while a model runs, so values below this are mA, not µA
_PLAUSIBLE_WATTS = (0.02, 200.0)


class _Units(NamedTuple):
    """How a device reports current: amperes per unit, name of the unit, and sign while discharging."""

    amperes: float
    name: str
    sign: str


class _Power(NamedTuple):
    """Mean power in watts, its standard error, and the number of new values from the gauge."""

    watts: float
    error: float
    updates: int


def energy_per_inference(
    before: Sequence[Reading], during: Sequence[Reading], after: Sequence[Reading], seconds: float
) -> dict[str, Any]:
    """Computes the energy of an inference.

    Args:
        before: Readings of the idle device before the model ran.
        during: Readings while the model ran without a break.
        after: Readings of the idle device afterwards.
        seconds: Mean time of an inference.

    Returns:
        `mj` per inference and its uncertainty `pm_mj` (see `NOTES`); the mean powers `run_mw` and `idle_mw`, and the
        uncertainty of their difference `pm_mw`; `how`, a description of the measurement.

    Raises:
        BenchError: If the battery is charging, or the readings are incomplete, inconsistent, or show no difference.
    """
    check_discharging([*before, *during, *after])
    windows = [_complete(readings, name) for readings, name in ((before, "idle"), (during, "run"), (after, "idle"))]
    everything = [*itertools.chain(*windows)]
    units = _units(everything)
    first, run, last = (_mean_power(window, units) for window in windows)
    if run.updates < _MIN_UPDATES:
        seen = f"{run.updates} different value{'s' * (run.updates > 1)} in {len(during)} readings"
        raise BenchError(
            f"energy: the battery's gauge is stuck or too slow ({seen}); try a longer time such as --energy=5m"
        )
    idle = (first.watts + last.watts) / 2
    idle_error = math.hypot(first.error / 2, last.error / 2, (first.watts - last.watts) / 2)
    excess, error = run.watts - idle, 2 * math.hypot(run.error, idle_error)
    _check_plausible(run.watts, excess, error)
    return {
        "mj": excess * seconds * 1e3,
        "pm_mj": error * seconds * 1e3,
        "run_mw": run.watts * 1e3,
        "idle_mw": idle * 1e3,
        "pm_mw": error * 1e3,
        "how": f"{_source(everything[0], units)}; {len(during)} readings, {run.updates} new values; "
        f"idle {first.watts * 1e3:.0f} mW before, {last.watts * 1e3:.0f} mW after",
    }


def _complete(readings: Sequence[Reading], name: str) -> list[Reading]:
    """Returns the readings that have a value, without those at the start."""
    known = [one for one in readings if one.power or (one.current is not None and one.voltage)]
    lost = len(readings) - len(known)
    if not known or lost > _LOST_SHARE * len(readings):
        way_out = "restart the device; if that does not help, its shell may not be allowed to read the battery"
        raise BenchError(f"energy: {lost} of {len(readings)} battery readings ({name}) have no value; {way_out}")
    return known[int(_SETTLING * len(known)) :]


def _units(readings: Sequence[Reading]) -> _Units:
    """Infers the unit and sign of the current from its values, since drivers ignore the kernel's rules for both.

    Raises:
        BenchError: If the sign changes, since the battery then charged part of the time.
    """
    if all(_has_power(one) for one in readings):
        return _Units(1e-6, "µW", "")
    currents = [one.current or 0 for one in readings]
    signs = {current > 0 for current in currents if current}
    if len(signs) > 1:
        raise BenchError("energy: the battery charged part of the time (its current changes sign); unplug the device")
    sign = "positive while discharging" if True in signs else "negative while discharging"
    milli = max(map(abs, currents)) < _LARGEST_MA
    return _Units(1e-3, "mA", sign) if milli else _Units(1e-6, "µA", sign)


def _has_power(reading: Reading) -> bool:
    return bool(reading.power) and (reading.current is None or reading.voltage is None)


def _watts(reading: Reading, units: _Units) -> float:
    if units.name == "µW":
        return abs(reading.power or 0) * units.amperes
    return abs(reading.current or 0) * units.amperes * _volts(reading.voltage or 0)


def _volts(voltage: int) -> float:
    """Converts microvolts, or millivolts as printed by Android's service, to volts."""
    return voltage * (1e-6 if voltage >= 100_000 else 1e-3)


def _mean_power(readings: Sequence[Reading], units: _Units) -> _Power:
    """Returns the mean power; repeated values are not new measurements, so only new values count for the error."""
    watts = [_watts(one, units) for one in readings]
    new = [value for value, _ in itertools.groupby(watts)]
    error = statistics.stdev(new) / math.sqrt(len(new)) if len(new) > 1 else 0.0
    return _Power(statistics.fmean(watts), error, len(new))


def _check_plausible(run: float, excess: float, error: float) -> None:
    least, most = _PLAUSIBLE_WATTS
    if not least <= run <= most:
        raise BenchError(f"energy: {run:.3g} W while the model runs is implausible; this gauge's units are unknown")
    if excess <= error:
        shown = f"{excess * 1e3:.0f} ± {error * 1e3:.0f} mW"
        raise BenchError(
            f"energy: the model's power cannot be distinguished from the idle device's ({shown}); "
            "measure for longer, close other apps, and check that the device is not charging"
        )


def _source(reading: Reading, units: _Units) -> str:
    if units.name == "µW":
        return f"power_now of {reading.source}, in µW"
    return f"current and voltage of {reading.source}, in {units.name}, {units.sign}"

"""Selects the thermal sensors of a device that show the processor's temperature.

A "thermal zone" can be anything that a driver monitors: the battery's charge in percent (Qualcomm's `soc`), a current,
or a sensor that is switched off or stuck. Whether a zone belongs to the processor is decided by its type, its unit, its
value compared with other zones, and, during a run, by whether the value ever changes.
"""

import re
from collections.abc import Mapping, Sequence

SERVICE = "Android's thermal service"
_CPU = re.compile(
    r"cpu|cluster|little|\bmid|\bbig|apc|silver|gold|prime|pkg_temp|package|coretemp|k10temp", re.IGNORECASE
)
_DIE = re.compile(r"tsens|soc", re.IGNORECASE)
_CHARGE = re.compile(r"socd?", re.IGNORECASE)  # state of charge, and of discharge, in percent
_OTHERS = re.compile(
    r"batt|\bbms|charg|chg|bcl|[vi]bat|gpu|npu|nsp|dsp|hvx|ddr|emmc|ufs|skin|quiet|shell|back|front|lcd|display|panel|"
    r"modem|mdm|wifi|wlan|wcn|\brf|pa[-_\d]|usb|conn|cam|flash|led|pmic|\bpm\w*\d|xo[-_]|buck|ambient|virtual|fan",
    re.IGNORECASE,
)
_MIN_RAW = 1000  # values from here on are in thousandths of a degree
_MAX_DEGREES = 115.0  # processors shut down before that
_MAX_ABOVE = 45.0  # maximum degrees between the hottest and the median sensor of one die
_STUCK, _STUCK_ALONE = 10, 20  # readings after which an unchanged sensor is stuck, if others changed, and if none did


def processor_sensors(zones: Mapping[str, tuple[str, str]], service: Sequence[str] = ()) -> dict[str, float]:
    """Returns the plausible processor temperatures in degrees Celsius, by name.

    Args:
        zones: Type and value of each thermal zone, as printed by the kernel.
        service: Values of the processor's sensors from Android's thermal service, in degrees Celsius.
    """
    raw = {name: (kind, value) for name, (kind, text) in zones.items() if (value := _number(text)) is not None}
    thousandths = any(abs(value) >= _MIN_RAW for _, value in raw.values())
    by_type = {
        "cpu": {name: one for name, one in raw.items() if _CPU.search(one[0]) and not _OTHERS.search(one[0])},
        "die": {name: one for name, one in raw.items() if _is_die(*one, thousandths)},
        "any": {name: one for name, one in raw.items() if _is_unknown(*one, thousandths)},
    }
    of_service = {
        f"{SERVICE} {place}": degrees for place, text in enumerate(service, 1) if (degrees := _degrees(_number(text)))
    }
    named = [_plausible(by_type["cpu"]), _plausible(by_type["die"]), _without_outliers(of_service)]
    return next(filter(None, [*named, _plausible(by_type["any"])]), {})


def hottest(sensors: Mapping[str, float]) -> tuple[float | None, str | None]:
    """Returns temperature and name of the hottest sensor; None for both if there are no sensors."""
    name = max(sensors, key=lambda one: sensors[one], default=None)
    return (None, None) if name is None else (sensors[name], name)


class Thermometer:
    """The processor's temperature during a run, without sensors that are stuck."""

    def __init__(self) -> None:
        self._values: dict[str, set[float]] = {}
        self._readings = 0

    def read(self, sensors: Mapping[str, float]) -> tuple[float | None, str | None]:
        """Returns temperature and name of the hottest sensor that is not stuck; None for both if there is none.

        Args:
            sensors: A reading of `processor_sensors`.
        """
        self._readings += 1
        for name, degrees in sensors.items():
            self._values.setdefault(name, set()).add(degrees)
        return hottest({name: degrees for name, degrees in sensors.items() if name not in self.stuck})

    @property
    def stuck(self) -> list[str]:
        """Names of the sensors whose value stayed the same for so many readings that they must be stuck."""
        some_move = any(len(values) > 1 for values in self._values.values())
        enough = self._readings >= (_STUCK if some_move else _STUCK_ALONE)
        return [name for name, values in self._values.items() if enough and len(values) == 1]


def _is_die(kind: str, value: float, thousandths: bool) -> bool:
    """Whether a zone measures the whole chip; if others are in thousandths, a small number is a percentage or level."""
    if not _DIE.search(kind) or _OTHERS.search(kind):
        return False
    return value >= _MIN_RAW or not (thousandths or _CHARGE.fullmatch(kind))


def _is_unknown(kind: str, value: float, thousandths: bool) -> bool:
    named = _CPU.search(kind) or _DIE.search(kind) or _OTHERS.search(kind)
    return not named and (value >= _MIN_RAW or not thousandths)


def _plausible(zones: Mapping[str, tuple[str, float]]) -> dict[str, float]:
    """Returns the plausible temperatures; only those in thousandths of a degree if there are any."""
    fine = {name: one for name, one in zones.items() if one[1] >= _MIN_RAW}
    degrees = {name: _degrees(value) for name, (_, value) in (fine or zones).items()}
    return _without_outliers({name: value for name, value in degrees.items() if value is not None})


def _without_outliers(degrees: Mapping[str, float]) -> dict[str, float]:
    if not degrees:
        return {}
    ordered = sorted(degrees.values())
    median = ordered[(len(ordered) - 1) // 2]
    return {name: value for name, value in degrees.items() if value <= median + _MAX_ABOVE}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _degrees(value: float | None) -> float | None:
    """Converts degrees or thousandths to degrees; None for a value that a running processor cannot have."""
    if value is None:
        return None
    value = value / 1000 if abs(value) >= _MIN_RAW else value
    return value if 0 < value < _MAX_DEGREES else None  # disabled sensors report 0 or -274

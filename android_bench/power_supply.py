"""Readings of a battery's current and voltage, from Linux's power_supply files or Android's battery service.

The files are described in the kernel's Documentation/ABI/testing/sysfs-class-power. Many phones do not let a shell read
them; there, `cmd battery get` queries the service (BatteryService.java).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from .errors import BenchError

INTERVAL_SECS = 0.5
SERVICE = "Android's battery service"
_FOLDER = "/sys/class/power_supply"
_NUMBER = re.compile(r"-?\d{1,15}")
_NOT_DISCHARGING = ("charging", "full", "not charging", "2", "4", "5")  # numbers: Android's codes
_WAY_OUT = "unplug it and connect over Wi-Fi: `adb tcpip 5555`, `adb connect ADDRESS:5555`, --serial=ADDRESS:5555"
# Defines `sample`, which appends a line to $readings. A battery with scope Device belongs to a mouse or a pen.
_SETUP = f"""\
battery=; chargers=; readings=; nl='
'
for d in {_FOLDER}/*; do
    t=; x=; c=; v=; p=
    {{ read -r t < $d/type; read -r x < $d/scope; }} 2>/dev/null
    case "$t:$x" in
    Battery:Device) ;;
    Battery:*)
        {{ read -r c < $d/current_now; read -r v < $d/voltage_now; read -r p < $d/power_now; }} 2>/dev/null
        [ -z "$battery" ] && {{ [ -n "$c" ] && [ -n "$v" ] || [ -n "$p" ]; }} && battery=$d ;;
    *) [ -r $d/online ] && chargers="$chargers $d/online" ;;
    esac
done
sample() {{
    c=; v=; p=; s=; o=
    if [ -n "$battery" ]; then
        {{ read -r c < $battery/current_now; read -r v < $battery/voltage_now; read -r p < $battery/power_now
        read -r s < $battery/status; }} 2>/dev/null
    else
        c=$(cmd battery get -f current_now 2>/dev/null)
        b=$(dumpsys battery 2>/dev/null)
        v=$(echo "$b" | sed -n 's/^ *voltage: //p')
        s=$(echo "$b" | sed -n 's/^ *status: //p')
        case "$b" in *' powered: true'*) o=1 ;; *'UPDATES STOPPED'*) o=faked ;; esac
    fi
    for f in $chargers; do x=; read -r x < $f 2>/dev/null; [ "${{x:-0}}" = 0 ] || o=1; done
    readings="$readings$nl$battery|$c|$v|$p|$s|$o"
}}
"""


class Reading(NamedTuple):
    """One reading of a battery, in the device's units; None where not reported.

    Attributes:
        source: Folder of the power_supply files, or `SERVICE`.
        current, voltage, power: Values as printed.
        status: Status as printed, such as `Discharging`, or Android's code for it.
        charger: `1` if a charger is connected, `faked` if the service shows values set by hand, otherwise empty.
    """

    source: str
    current: int | None
    voltage: int | None
    power: int | None
    status: str
    charger: str


def reading_script(count: int) -> str:
    """Returns a shell script that prints some readings, `INTERVAL_SECS` apart; see `parse_readings`."""
    loop = f"n=0; while [ $n -lt {count} ]; do sample; n=$((n + 1)); sleep {INTERVAL_SECS}; done"
    return f'{_SETUP}{loop}\necho "$readings"'


def sampled_command(command: str, mark: str) -> str:
    """Returns a shell script that runs a command and reads the battery until the command ends.

    The script prints the command's output, the mark and the readings, and sets `s` to the exit status.
    """
    loop = f"while kill -0 $pid 2>/dev/null; do sample; sleep {INTERVAL_SECS}; done"
    return f'{_SETUP}({command}) &\npid=$!; {loop}; wait $pid; s=$?\necho; echo {mark}; echo "$readings"'


def parse_readings(text: str) -> list[Reading]:
    """Parses the output of the scripts."""
    readings = []
    for line in text.splitlines():
        source, *values = line.split("|")
        if len(values) == 5:
            current, voltage, power = (int(value) if _NUMBER.fullmatch(value) else None for value in values[:3])
            readings.append(Reading(source or SERVICE, current, voltage, power, values[3].strip(), values[4]))
    return readings


def check_discharging(readings: Sequence[Reading]) -> None:
    """Checks that the device runs on its battery.

    Raises:
        BenchError: If the battery is charging, a charger is connected, or there is no battery.
    """
    if not any(reading.current is not None or reading.power for reading in readings):
        raise BenchError("energy: the device does not report its battery current, or does not let a shell read it")
    for reading in readings:
        if reading.charger == "faked":
            raise BenchError(f"energy: {SERVICE} shows values set by hand; reset them with `dumpsys battery reset`")
        if reading.charger:
            raise BenchError(f"energy: a charger is connected, so the battery does not show the power used; {_WAY_OUT}")
        if reading.status.lower() in _NOT_DISCHARGING:
            raise BenchError(f"energy: the battery is not discharging (status {reading.status}); {_WAY_OUT}")

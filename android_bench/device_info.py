"""Facts about a device (processor, cores, Android version) and its state (clocks, temperature, battery, load).

Uses only commands that every phone and board has; what a device does not report is None or empty.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from . import thermal_sensors
from .shell import Shell

_CPU = "/sys/devices/system/cpu"
_PROPERTIES = {
    "manufacturer": "ro.product.manufacturer",
    "model": "ro.product.model",
    "android": "ro.build.version.release",
    "build": "ro.build.fingerprint",
    "soc": "ro.soc.model",
    "board": "ro.board.platform",
    "hardware": "ro.hardware",
    "qemu": "ro.boot.qemu",
    "old_qemu": "ro.kernel.qemu",
    "abis": "ro.product.cpu.abilist",
    "abi": "ro.product.cpu.abi",
}
# Prints `path=line` for every line of every file that can be read.
_SHOW = 'for f in {}; do [ -r $f ] && while read -r l || [ -n "$l" ]; do echo "$f=$l"; done < $f; done 2>/dev/null'
_FACTS_SCRIPT = "\n".join(
    [
        'echo "arch=$(uname -m)"; echo "kernel=$(uname -r)"; echo "bits=$(getconf LONG_BIT 2>/dev/null)"',
        f"for p in {' '.join(_PROPERTIES.values())}; do",
        'echo "$p=$(getprop $p 2>/dev/null)"; done 2>/dev/null',
        'echo "taskset=$(command -v taskset)"',
        _SHOW.format(
            f"{_CPU}/online {_CPU}/cpu[0-9]*/cpufreq/cpuinfo_max_freq {_CPU}/cpu[0-9]*/cpu_capacity "
            "/proc/device-tree/model"
        ),
        "grep -m1 '^model name' /proc/cpuinfo 2>/dev/null | sed 's/^/cpuinfo=/'; true",
    ]
)
# The commands whose output `parse_state` reads.
STATE_SCRIPT = "\n".join(
    [
        _SHOW.format(
            f"{_CPU}/cpu[0-9]*/cpufreq/scaling_governor {_CPU}/cpu[0-9]*/cpufreq/scaling_cur_freq "
            f"{_CPU}/cpu[0-9]*/cpufreq/scaling_max_freq {_CPU}/cpu[0-9]*/cpufreq/stats/time_in_state "
            "/sys/class/thermal/thermal_zone[0-9]*/type /sys/class/thermal/thermal_zone[0-9]*/temp /proc/loadavg"
        ),
        "dumpsys battery 2>/dev/null | sed 's/^ */battery./;s/: /=/'",
        # Type 0 is the processor (android.os.Temperature). Many phones do not let a shell read the zones above.
        "dumpsys thermalservice 2>/dev/null | sed -n 's/^ *Thermal Status: /thermal_status=/p;"
        "/^Current temperatures/,$s/.*{mValue=\\([0-9.]*\\), mType=0,.*/processor_temp=\\1/p'",
        'echo "low_power=$(settings get global low_power 2>/dev/null)"',
    ]
)
_INTEGER = re.compile(r"[0-9]{1,15}")
_LOW_BATTERY = 20  # percent
CLOCK_SLACK = 0.98  # a clock limited to less than this share of its maximum is capped
_MACHINES = {"aarch64": "arm64-v8a", "x86_64": "x86_64", "i686": "x86", "riscv64": "riscv64"}


def read_facts(shell: Shell) -> dict[str, Any]:
    """Reads the constant facts about a device.

    Returns:
        `name`; `kind`: `phone`, `emulator`, `board` or `host`; `android`, `soc`, `build`, `kernel`; `abis`: supported
        ABIs, the best first; `cores`: for each online core, its `number`, maximum frequency `khz` and `capacity`, each
        None if not reported; `taskset`: whether the command exists.
    """
    values = _parse_lines(shell.check(_FACTS_SCRIPT))
    properties = {name: _first(values, key) for name, key in _PROPERTIES.items()}
    arch = _first(values, "arch")
    return {
        "name": _name(values, properties) or arch,
        "kind": _kind(shell, properties),
        "android": properties["android"] or None,
        "soc": properties["soc"] or properties["board"] or None,
        "build": properties["build"] or None,
        "kernel": _first(values, "kernel"),
        "abis": _abis(properties, arch, _first(values, "bits")),
        "cores": _cores(values),
        "taskset": bool(_first(values, "taskset")),
    }


def read_state(shell: Shell) -> dict[str, Any]:
    """Reads the state of a device; see `parse_state`."""
    return parse_state(shell.check(STATE_SCRIPT))


def parse_state(text: str) -> dict[str, Any]:
    """Parses the output of `STATE_SCRIPT`.

    Returns:
        `governor`, `mhz` and `max_mhz` by core (current clock, and its limit by heat or a setting); `residency`: for
        each core, the time spent at each frequency in kHz, in units of 10 ms; `sensors`, in degrees Celsius, see
        `thermal_sensors.processor_sensors`; `temperature` and `sensor` of the hottest of them; `battery`: percent,
        charging, temperature; `thermal_status` (0: not throttled); `low_power`; `load`. None or empty where the device
        does not report it.
    """
    values = _parse_lines(text)
    sensors = _sensors(values)
    temperature, sensor = thermal_sensors.hottest(sensors)
    status, load = _first(values, "thermal_status"), _first(values, "/proc/loadavg").partition(" ")[0]
    return {
        "governor": _by_core(values, "scaling_governor"),
        "mhz": _mhz_by_core(values, "scaling_cur_freq"),
        "max_mhz": _mhz_by_core(values, "scaling_max_freq"),
        "residency": _residency(values),
        "sensors": sensors,
        "temperature": temperature,
        "sensor": sensor,
        "battery": _battery({name: _first(values, f"battery.{name}") for name in ("level", "status", "temperature")}),
        "thermal_status": int(status) if _INTEGER.fullmatch(status) else None,
        "low_power": {"1": True, "0": False}.get(_first(values, "low_power")),
        "load": float(load) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", load) else None,
    }


def busy_mhz(before: dict[str, Any], after: dict[str, Any], cores: Sequence[int]) -> float | None:
    """Returns the time-weighted mean clock in MHz of the fastest of some cores; None if unknown.

    Args:
        before: `residency` of the first state; see `parse_state`.
        after: `residency` of the second state.
        cores: Numbers of the cores.
    """
    found = []
    for core in map(str, cores):
        start, end = before.get(core, {}), after.get(core, {})
        spent = {frequency: ticks - start.get(frequency, 0) for frequency, ticks in end.items()}
        if (total := sum(spent.values())) > 0:
            found.append(sum(int(frequency) * ticks for frequency, ticks in spent.items()) / total / 1000)
    return max(found, default=None)


def state_warnings(state: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    """Returns reasons why a device's times may be unreliable, known before anything runs.

    Args:
        state: See `parse_state`.
        facts: See `read_facts`.
    """
    found, battery = [], state["battery"]
    if battery.get("percent", 100) < _LOW_BATTERY and not battery.get("charging"):
        found.append(f"the battery is at {battery['percent']}%: phones slow down when it is low; charge it")
    if state["low_power"]:
        found.append("battery saver is on, which slows the phone down; turn it off")
    if state["thermal_status"]:
        found.append(f"the phone is throttled by heat (thermal status {state['thermal_status']}); let it cool down")
    found += _clock_warnings(state, facts)
    if facts["kind"] == "phone" and not state["max_mhz"]:
        found.append("the phone does not report its clock, so throttling only shows as drifting times")
    return found


def _clock_warnings(state: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    found = []
    for core in facts["cores"]:
        most, cap = (core["khz"] or 0) / 1000, state["max_mhz"].get(str(core["number"]))
        if cap and cap < CLOCK_SLACK * most:
            capped = f"core {core['number']} is capped at {cap:.0f} of its {most:.0f} MHz"
            found.append(f"{capped} before the first launch, because of heat or a setting")
    return found


def _parse_lines(text: str) -> dict[str, list[str]]:
    """Returns the values of each key in lines of the form `key=value`."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            values.setdefault(key.strip(), []).append(value.strip())
    return values


def _first(values: Mapping[str, Sequence[str]], key: str) -> str:
    """Returns the first value of a key, "" if there is none."""
    return values[key][0] if key in values else ""


def _name(values: dict[str, list[str]], properties: dict[str, str]) -> str:
    """Returns the name of the phone, board or processor, whichever is known."""
    phone = f"{properties['manufacturer']} {properties['model']}".strip()
    board = _first(values, "/proc/device-tree/model").strip("\0")
    return phone or board or _first(values, "cpuinfo").partition(":")[2].strip()


def _kind(shell: Shell, properties: dict[str, str]) -> str:
    if shell.target == "host":
        return "host"
    if properties["hardware"] in ("ranchu", "goldfish", "cutf_cvm") or "1" in (
        properties["qemu"],
        properties["old_qemu"],
    ):
        return "emulator"
    return "phone" if properties["model"] else "board"


def _abis(properties: dict[str, str], arch: str, bits: str) -> list[str]:
    abis = [abi for abi in (properties["abis"] or properties["abi"]).split(",") if abi]
    if abis:
        return abis
    if arch.startswith("arm") or (arch == "aarch64" and bits == "32"):  # a 32-bit system may run on a 64-bit kernel
        return ["armeabi-v7a"]
    return [_MACHINES[arch]] if arch in _MACHINES else []


def _cores(values: dict[str, list[str]]) -> list[dict[str, Any]]:
    khz = _numbers_by_core(values, "cpuinfo_max_freq")
    capacity = _numbers_by_core(values, "cpu_capacity")
    numbers = _ranges(_first(values, f"{_CPU}/online")) or sorted(map(int, {**khz, **capacity}))
    return [{"number": n, "khz": khz.get(str(n)), "capacity": capacity.get(str(n))} for n in numbers]


def _ranges(text: str) -> list[int]:
    """Parses a list such as `0-3,6`; anything else is an empty list."""
    numbers = []
    for first, last in re.findall(r"\b(\d{1,3})(?:-(\d{1,3}))?\b", text):
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _by_core(values: dict[str, list[str]], name: str) -> dict[str, str]:
    pattern = re.compile(rf"{_CPU}/cpu(\d+)/(?:\w+/)*{name}")
    matches = {key: match[1] for key in values if (match := pattern.fullmatch(key))}
    return {core: values[key][0] for key, core in matches.items() if values[key][0]}


def _numbers_by_core(values: dict[str, list[str]], name: str) -> dict[str, int]:
    """Returns the numbers by core, without other values, since some drivers print `<unknown>`."""
    return {core: int(value) for core, value in _by_core(values, name).items() if _INTEGER.fullmatch(value)}


def _mhz_by_core(values: dict[str, list[str]], name: str) -> dict[str, float]:
    return {core: khz / 1000 for core, khz in _numbers_by_core(values, name).items()}


def _residency(values: dict[str, list[str]]) -> dict[str, dict[str, int]]:
    pattern = re.compile(rf"{_CPU}/cpu(\d+)/cpufreq/stats/time_in_state")
    found = {}
    for key, lines in values.items():
        if match := pattern.fullmatch(key):
            pairs = [line.split() for line in lines]
            found[match[1]] = {
                pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and all(map(_INTEGER.fullmatch, pair))
            }
    return found


def _sensors(values: dict[str, list[str]]) -> dict[str, float]:
    prefix = "/sys/class/thermal/thermal_zone"
    types = {key: kinds[0] for key, kinds in values.items() if key.startswith(prefix) and key.endswith("/type")}
    zones = {key.removesuffix("/type"): kind for key, kind in types.items()}
    kinds = list(zones.values())
    named = {
        kind if kinds.count(kind) == 1 else f"{kind} {zone.removeprefix(prefix)}": (
            kind,
            _first(values, f"{zone}/temp"),
        )
        for zone, kind in zones.items()
    }
    return thermal_sensors.processor_sensors(named, values.get("processor_temp", ()))


def _battery(values: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if _INTEGER.fullmatch(values.get("level", "")):
        found["percent"] = int(values["level"])
    if _INTEGER.fullmatch(values.get("status", "")):
        found["charging"] = values["status"] in ("2", "5")  # charging, full
    if _INTEGER.fullmatch(values.get("temperature", "")):
        found["temperature"] = int(values["temperature"]) / 10
    return found

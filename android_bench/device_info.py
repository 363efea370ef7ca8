"""A device through its shell: what it is, how it is doing, and files on it.

Works with what a phone's or board's own shell offers; what a device does not tell is None or empty.
"""

import hashlib
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .plan import ANY_CORE, BenchError
from .shell import Shell, one_line

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
_FACTS = "\n".join(
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
# Prints what `read_state` reads.
STATE = "\n".join(
    [
        _SHOW.format(
            f"{_CPU}/cpu[0-9]*/cpufreq/scaling_governor {_CPU}/cpu[0-9]*/cpufreq/scaling_cur_freq "
            f"{_CPU}/cpu[0-9]*/cpufreq/scaling_max_freq {_CPU}/cpu[0-9]*/cpufreq/stats/time_in_state "
            "/sys/class/thermal/thermal_zone[0-9]*/type /sys/class/thermal/thermal_zone[0-9]*/temp /proc/loadavg"
        ),
        "dumpsys battery 2>/dev/null | sed 's/^ */battery./;s/: /=/'",
        # Type 0 is the processor's (android.os.Temperature); many phones do not let a shell read the zones above.
        "dumpsys thermalservice 2>/dev/null | sed -n 's/^ *Thermal Status: /thermal_status=/p;"
        "/^Current temperatures/,$s/.*{mValue=\\([0-9.]*\\), mType=0,.*/processor_temp=\\1/p'",
        'echo "low_power=$(settings get global low_power 2>/dev/null)"',
    ]
)
_CPU_ZONE = re.compile(r"cpu|tsens|soc|cluster|little|mid|big|apc", re.IGNORECASE)
_LOW_BATTERY = 20  # percent
CLOCK_SLACK = 0.98  # a clock that is held below this share of its greatest is capped
_MACHINES = {"aarch64": "arm64-v8a", "x86_64": "x86_64", "i686": "x86", "riscv64": "riscv64"}
_ELF_MACHINES = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86", 243: "riscv64"}


def read_facts(shell: Shell) -> dict[str, Any]:
    """Finds out what a device is.

    Returns:
        `name`; `kind`: `phone`, `emulator`, `board` or `host`; `android`, `soc`, `build`, `kernel`; `abis`, those
        it runs, the best first; `cores`: for each that is online, its number, greatest frequency in kHz and
        capacity, each None if not told; `taskset`: whether there is one.
    """
    told = _lines(shell.check(_FACTS))
    known = {name: (told.get(key) or [""])[0] for name, key in _PROPERTIES.items()}
    cpuinfo = (told.get("cpuinfo") or [""])[0].partition(":")[2].strip()
    tree = (told.get("/proc/device-tree/model") or [""])[0].strip("\0")
    name = f"{known['manufacturer']} {known['model']}".strip() or tree or cpuinfo or told["arch"][0]
    return {
        "name": name,
        "kind": _kind(shell, known),
        "android": known["android"] or None,
        "soc": known["soc"] or known["board"] or None,
        "build": known["build"] or None,
        "kernel": told["kernel"][0],
        "abis": _abis(known, told["arch"][0], told["bits"][0]),
        "cores": _cores(told),
        "taskset": bool(told["taskset"][0]),
    }


def read_state(shell: Shell) -> dict[str, Any]:
    """Finds out how a device is doing; see `parse_state`."""
    return parse_state(shell.check(STATE))


def parse_state(text: str) -> dict[str, Any]:
    """Reads what `STATE` prints.

    Returns:
        `governor`, `mhz` and `max_mhz` by core (clock now, and the clock that heat or a setting allows);
        `residency`, for each core the time in 10 ms it has spent at each frequency in kHz; `temperature`, in
        degrees Celsius, of the hottest zone or sensor of the processor, or of any zone if none is called so; `battery`:
        percent, charging, temperature; `thermal_status` (0: not throttled); `low_power`; `load`. None or empty
        where the device does not tell.
    """
    told = _lines(text)
    battery = {key.removeprefix("battery."): values[0] for key, values in told.items() if key.startswith("battery.")}
    status = (told.get("thermal_status") or [""])[0]
    load = (told.get("/proc/loadavg") or [""])[0].partition(" ")[0]
    return {
        "governor": _by_core(told, "scaling_governor"),
        "mhz": _mhz_by_core(told, "scaling_cur_freq"),
        "max_mhz": _mhz_by_core(told, "scaling_max_freq"),
        "residency": _residency(told),
        "temperature": _temperature(told),
        "battery": _battery(battery),
        "thermal_status": int(status) if status.strip().isdigit() else None,
        "low_power": {"1": True, "0": False}.get((told.get("low_power") or [""])[0]),
        "load": float(load) if re.fullmatch(r"\d+(\.\d+)?", load) else None,
    }


def busy_mhz(before: dict[str, Any], after: dict[str, Any], cores: Sequence[int]) -> float | None:
    """Returns the mean clock in MHz, over time, of the fastest of some cores; None if unknown.

    Args:
        before, after: `residency` of two states; see `parse_state`.
        cores: Numbers of the cores.
    """
    found = []
    for core in map(str, cores):
        start, end = before.get(core, {}), after.get(core, {})
        spent = {frequency: ticks - start.get(frequency, 0) for frequency, ticks in end.items()}
        if (total := sum(spent.values())) > 0:
            found.append(sum(int(frequency) * ticks for frequency, ticks in spent.items()) / total / 1000)
    return max(found, default=None)


def troubles(state: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    """Returns warnings about the state of a device before it is measured on.

    Args:
        state: Of `read_state`.
        facts: Of `read_facts`.
    """
    found, battery = [], state["battery"]
    if battery.get("percent", 100) < _LOW_BATTERY and not battery.get("charging"):
        found.append(f"the battery is at {battery['percent']}%: phones slow down when it runs out; charge it")
    if state["low_power"]:
        found.append("battery saver is on, which slows the phone down: switch it off")
    if state["thermal_status"]:
        found.append(f"the phone is throttled by heat (thermal status {state['thermal_status']}): let it cool down")
    for core in facts["cores"]:
        most, cap = (core["khz"] or 0) / 1000, state["max_mhz"].get(str(core["number"]))
        if cap and cap < CLOCK_SLACK * most:
            capped = f"core {core['number']} is held at {cap:.0f} of its {most:.0f} MHz"
            found.append(f"{capped} before anything ran, by heat or by a setting")
    if facts["kind"] == "phone" and not state["max_mhz"]:
        found.append("the phone does not tell its clock: throttling shows in nothing but drifting times")
    return found


def choose_cores(facts: dict[str, Any], choice: str, threads: int) -> tuple[list[int], list[str]]:
    """Chooses the cores to run on.

    Args:
        facts: See `read_facts`.
        choice: `big`, `little`, a hexadecimal mask, or `any`.
        threads: How many cores are needed.

    Returns:
        Numbers of the cores, none for any, and warnings.

    Raises:
        BenchError: If a mask names a core that is not there, or the device cannot pin a process.
    """
    if choice == ANY_CORE:
        return [], []
    online = [core["number"] for core in facts["cores"]]
    if choice not in ("big", "little"):
        cores = [bit for bit in range(int(choice, 16).bit_length()) if int(choice, 16) >> bit & 1]
        absent = [core for core in cores if online and core not in online]
        if absent:
            raise BenchError(f"--core={choice} names core {absent[0]}, but {facts['name']} has {_span(online)}")
        if not facts["taskset"]:
            raise BenchError(f"--core={choice}: {facts['name']} has no taskset: leave --core={ANY_CORE}")
        return cores, []
    if not facts["taskset"]:
        return [], [f"no taskset: --core={choice} is not possible, the system chooses the core of each launch"]
    speed = {core["number"]: _speed(core) for core in facts["cores"]}
    if not speed:
        return [], [f"the device does not list its cores: --core={choice} is not possible"]
    warnings = []
    if None in speed.values():
        warnings.append(f"the device does not tell how fast its cores are: --core={choice} takes {_either(choice)} one")
        speed = dict.fromkeys(speed, (0, 0))
    best = (max if choice == "big" else min)(speed.values())
    cluster = sorted(number for number, value in speed.items() if value == best)
    if len(cluster) < threads:
        warnings.append(f"{threads} threads on the {len(cluster)} {choice} cores: threads wait for each other")
    return (cluster[-threads:] if choice == "big" else cluster[:threads]), warnings


def mask(cores: Iterable[int]) -> str:
    """Returns cores as `taskset` takes them on a phone: a hexadecimal mask without 0x."""
    return f"{sum(1 << core for core in cores):x}"


def describe_cores(cores: Sequence[dict[str, Any]]) -> str:
    """Returns cores in words, such as `4 x 1.80 GHz + 4 x 2.40 GHz`."""
    clocks: dict[int | None, int] = {}
    for core in cores:
        clocks[core["khz"]] = clocks.get(core["khz"], 0) + 1
    words = [f"{count} x {khz / 1e6:.2f} GHz" for khz, count in sorted(clocks.items(), key=str) if khz]
    return " + ".join(words) if words else f"{len(cores)}" if cores else "unknown"


def elf_abi(path: Path) -> str | None:
    """Returns Android's name of what an executable is built for; None for a script.

    Raises:
        BenchError: If it is neither.
    """
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError as error:
        raise BenchError(f"--benchmark_binary={path}: cannot be read: {error.strerror}") from error
    if head[:2] == b"#!":
        return None
    order = {1: "little", 2: "big"}.get(head[5] if len(head) == 20 else 0)
    abi = order and _ELF_MACHINES.get(int.from_bytes(head[18:20], order))
    if head[:4] != b"\x7fELF" or abi is None:
        raise BenchError(f"--benchmark_binary={path}: not a Linux or Android executable (no ELF header we know)")
    return abi


def check_abi(path: Path, facts: dict[str, Any]) -> None:
    """Refuses an executable that a device cannot run.

    Raises:
        BenchError: If it is built for another processor.
    """
    abi = elf_abi(path)
    if abi is not None and facts["abis"] and abi not in facts["abis"]:
        raise BenchError(
            f"--benchmark_binary={path} is built for {abi}, but {facts['name']} runs {', '.join(facts['abis'])}: "
            "--fetch_binary gets the right one"
        )


def install(shell: Shell, local: Path, executable: bool = False) -> str:
    """Brings a file to a device, unless it is there already, and makes sure that it arrived whole.

    Files are called by their hash, so that two of one name never mix.

    Returns:
        Its path there.

    Raises:
        Gone: If the connection broke.
        BenchError: If it could not be written, or is not the same there.
    """
    if shell.folder is None:
        return str(local.resolve())
    try:
        digest = hashlib.sha256(local.read_bytes()).hexdigest()
    except OSError as error:
        raise BenchError(f"{local}: cannot be read: {error.strerror}") from error
    remote = f"{shell.folder}/{digest[:12]}_{re.sub(r'[^A-Za-z0-9._-]', '_', local.name)}"
    arrived, temporary = shlex.quote(remote), f"{remote}.part"
    if _remote_sha256(shell, remote) != digest:
        shell.check(f"mkdir -p {shlex.quote(shell.folder)}")
        try:
            shell.push(local, temporary)
        except BenchError as error:
            _explain_full_disk(shell, error)
            raise
        if _remote_sha256(shell, temporary) != digest:
            shell.run(f"rm -f {shlex.quote(temporary)}")
            raise BenchError(f"{shell.serial}: {local} arrived damaged: is the device's storage full? run again")
        shell.check(f"mv {shlex.quote(temporary)} {arrived}")
    if executable and shell.run(f"chmod 755 {arrived} && [ -x {arrived} ]").status:
        raise BenchError(f"{shell.serial}: {remote} cannot be made executable: is {shell.folder} mounted noexec?")
    return remote


def clean(shell: Shell) -> None:
    """Removes everything that `install` brought to a device."""
    if shell.folder:
        shell.check(f"rm -rf {shlex.quote(shell.folder)}")


def _explain_full_disk(shell: Shell, error: BenchError) -> None:
    if "No space left" in str(error):
        shell.run(f"rm -f {shlex.quote(str(shell.folder))}/*.part")
        raise BenchError(f"{error}: free some space on the device, or remove what is in {shell.folder}") from error


def _remote_sha256(shell: Shell, remote: str) -> str | None:
    """Returns the hash of a file on a device, None if there is no such file."""
    path = shlex.quote(remote)
    done = shell.run(f"[ -f {path} ] || exit 3; sha256sum {path} || toybox sha256sum {path}", timeout=120)
    if done.status == 3:
        return None
    match = re.search(r"\b[0-9a-f]{64}\b", done.output)
    if done.status or match is None:
        raise BenchError(f"{shell.serial}: cannot hash {remote}: {one_line(done.output)}")
    return match[0]


def _lines(text: str) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            told.setdefault(key.strip(), []).append(value.strip())
    return told


def _kind(shell: Shell, known: dict[str, str]) -> str:
    if shell.target == "host":
        return "host"
    if known["hardware"] in ("ranchu", "goldfish", "cutf_cvm") or "1" in (known["qemu"], known["old_qemu"]):
        return "emulator"
    return "phone" if known["model"] else "board"


def _abis(known: dict[str, str], arch: str, bits: str) -> list[str]:
    abis = [abi for abi in (known["abis"] or known["abi"]).split(",") if abi]
    if abis:
        return abis
    if arch.startswith("arm") or (arch == "aarch64" and bits == "32"):  # a 64-bit kernel below a 32-bit system
        return ["armeabi-v7a"]
    return [_MACHINES[arch]] if arch in _MACHINES else []


def _cores(told: dict[str, list[str]]) -> list[dict[str, Any]]:
    khz = _numbers_by_core(told, "cpuinfo_max_freq")
    capacity = _numbers_by_core(told, "cpu_capacity")
    numbers = _ranges((told.get(f"{_CPU}/online") or [""])[0]) or sorted(map(int, {**khz, **capacity}))
    return [{"number": n, "khz": khz.get(str(n)), "capacity": capacity.get(str(n))} for n in numbers]


def _ranges(text: str) -> list[int]:
    """Reads a list such as `0-3,6`; what is none says nothing."""
    numbers = []
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _by_core(told: dict[str, list[str]], name: str) -> dict[str, str]:
    pattern = re.compile(rf"{_CPU}/cpu(\d+)/(?:\w+/)*{name}")
    return {match[1]: values[0] for key, values in told.items() if (match := pattern.fullmatch(key)) and values[0]}


def _numbers_by_core(told: dict[str, list[str]], name: str) -> dict[str, int]:
    """Leaves out what is no number: some drivers say `<unknown>`."""
    return {core: int(value) for core, value in _by_core(told, name).items() if value.isdecimal()}


def _mhz_by_core(told: dict[str, list[str]], name: str) -> dict[str, float]:
    return {core: khz / 1000 for core, khz in _numbers_by_core(told, name).items()}


def _residency(told: dict[str, list[str]]) -> dict[str, dict[str, int]]:
    pattern = re.compile(rf"{_CPU}/cpu(\d+)/cpufreq/stats/time_in_state")
    found = {}
    for key, lines in told.items():
        if match := pattern.fullmatch(key):
            pairs = [line.split() for line in lines]
            found[match[1]] = {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and "".join(pair).isdecimal()}
    return found


def _temperature(told: dict[str, list[str]]) -> float | None:
    zones = "/sys/class/thermal/thermal_zone"
    types = {key.removesuffix("/type"): values[0] for key, values in told.items() if key.startswith(zones)}
    degrees = {zone: _degrees(told.get(f"{zone}/temp", [""])[0]) for zone in types}
    known = {zone: value for zone, value in degrees.items() if value is not None}
    chosen = [value for zone, value in known.items() if _CPU_ZONE.search(types[zone])]
    service = [value for text in told.get("processor_temp", ()) if (value := _degrees(text)) is not None]
    return max(chosen or service or known.values(), default=None)


def _degrees(text: str) -> float | None:
    """Reads a zone's temperature, in degrees or thousandths of them; None for what cannot be one."""
    try:
        value = float(text)
    except ValueError:
        return None
    value = value / 1000 if abs(value) >= 1000 else value
    return value if 0 < value < 150 else None  # switched-off sensors say 0 or -274


def _battery(told: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if told.get("level", "").isdigit():
        found["percent"] = int(told["level"])
    if told.get("status", "").isdigit():
        found["charging"] = told["status"] in ("2", "5")  # charging, full
    if told.get("temperature", "").isdigit():
        found["temperature"] = int(told["temperature"]) / 10
    return found


def _speed(core: dict[str, Any]) -> tuple[int, int] | None:
    """Returns what to order cores by: capacity where known, since a big core may have the lower clock."""
    if core["khz"] is None and core["capacity"] is None:
        return None
    return (core["capacity"] or 0, core["khz"] or 0)


def _either(choice: str) -> str:
    return "the last" if choice == "big" else "the first"


def _span(numbers: Sequence[int]) -> str:
    return f"cores {', '.join(map(str, numbers))}"

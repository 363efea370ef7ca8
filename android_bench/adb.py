"""Android devices over adb. Every call names its device (`-s`), and every exit status is checked."""

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import BenchError
from .messages import log
from .shell import PUSH_SECS, QUICK_SECS, CommandResult, ConnectionLostError, Shell, call, one_line

FOLDER = "/data/local/tmp/android_bench"  # in the only folder of a phone where a shell may write and execute
READY = "device"  # adb's state of a device that is ready
_NETWORK = re.compile(r".+:\d+")  # a serial such as 192.168.0.5:5555
_LINE = re.compile(
    r"(?P<serial>\S.*?)\s+(?:(?P<denied>no permissions).*|(?P<state>device|offline|unauthorized|authorizing|connecting|"
    r"recovery|sideload|rescue|bootloader|fastboot|host|detached|unknown)(?:\s+\w+:.*)?)"
)
_REMEDIES = {
    "unauthorized": "unlock the phone and allow USB debugging for this computer (docs/phones.md)",
    "authorizing": "unlock the phone and allow USB debugging for this computer (docs/phones.md)",
    "silent": "unplug it and plug it in again, or restart it",
    "offline": "unplug it and plug it in again, or turn USB debugging off and on",
    "no permissions": "to let this user open the USB device, install udev rules (apt install android-sdk-platform-"
    "tools-common), join the group plugdev, and plug it in again",
    "recovery": "boot it into Android: adb reboot",
    "sideload": "boot it into Android: adb reboot",
    "bootloader": "boot it into Android: fastboot reboot",
    "missing": "plug it in, or check its serial in `adb devices`",
}
_NONE_FOUND = (
    "no device found; enable USB debugging in the phone's developer options and plug it in (docs/phones.md), or time "
    "models on this machine with fd-keras bench --target=host"
)


class AdbDevice(NamedTuple):
    """A line of `adb devices`.

    Attributes:
        serial: Serial number or network address.
        state: `device` if it is ready, otherwise a key of `_REMEDIES`.
        name: Model of the phone; "" if adb does not report it.
    """

    serial: str
    state: str
    name: str


class AdbShell(Shell):
    """A shell on a device, over adb.

    Args:
        serial: Serial as listed by `adb devices`.
        program: The adb client.
    """

    target = "adb"
    folder = FOLDER

    def __init__(self, serial: str, program: str = "adb") -> None:
        super().__init__(serial)
        self._program = program

    def push(self, local: Path, remote: str) -> None:
        """See `Shell.push`."""
        result = self._call([self._program, "-s", self.serial, "push", str(local), remote], PUSH_SECS)
        if result.status:
            message = f"{self.serial}: {local} could not be pushed to {remote}"
            own_words = result.output.replace(str(local), "")
            answered = any(words in own_words for words in ("remote", "No space", "cannot stat"))
            raise (
                BenchError(f"{message}: {one_line(result.output)}") if answered else self._lost_error(result, message)
            )

    def reconnect(self, stop: Callable[[], bool], patience: float) -> None:
        """See `Shell.reconnect`."""
        deadline = time.monotonic() + patience
        state, logged = self._readiness(), None
        while not stop() and state != READY:
            if time.monotonic() > deadline:
                late = f"{self.serial}: did not come back within {patience:.0f} s"
                raise BenchError(f"{late} ({state}); {remedy(state)}")
            if state != logged:
                log("waiting", f"{self.serial}: {state}; {remedy(state)}")
                logged = state
            self._try_to_reconnect(state)
            time.sleep(0.5)
            state = self._readiness()

    def _try_to_reconnect(self, state: str) -> None:
        if _NETWORK.fullmatch(self.serial):
            self._adb("disconnect", self.serial)  # otherwise a dead connection stays "offline"
            self._adb("connect", self.serial)
        elif state in ("offline", "silent"):
            self._adb("-s", self.serial, "reconnect")

    @property
    def _argv(self) -> list[str]:
        return [self._program, "-s", self.serial, "shell"]

    def _state(self) -> str:
        return next((device.state for device in list_devices(self._program) if device.serial == self.serial), "missing")

    def _readiness(self) -> str:
        """Returns the state; `silent` for a device that adb lists as ready but that does not respond."""
        state = self._state()
        try:
            return state if state != READY or self.run("true").status == 0 else "silent"
        except (ConnectionLostError, TimeoutError):
            return "silent"

    def _adb(self, *words: str) -> None:
        """Calls adb and ignores the result; the device's state shows whether it worked."""
        with contextlib.suppress(TimeoutError):
            self._call([self._program, *words], QUICK_SECS)

    def _connection_error(self, result: CommandResult) -> BenchError:
        return self._lost_error(result, f"{self.serial}: the connection broke")

    def _lost_error(self, result: CommandResult, message: str) -> ConnectionLostError:
        state = self._state()
        if state == "unauthorized":
            return ConnectionLostError(f"{self.serial}: {state}; {remedy(state)}")
        return ConnectionLostError(f"{message}: {one_line(result.output) or state}")


def list_devices(program: str = "adb") -> list[AdbDevice]:
    """Lists the devices that adb knows, ready or not.

    Raises:
        BenchError: If adb is not installed or fails.
    """
    try:
        result = call([program, "devices", "-l"], QUICK_SECS)
    except (FileNotFoundError, PermissionError) as error:
        way_out = "install it (apt install adb, or Android's platform-tools), or pass --adb=PATH"
        raise BenchError(f"{program}: adb is not installed, or not on the PATH; {way_out}") from error
    except TimeoutError as error:
        raise BenchError(f"`{program} devices`: {error}; try `adb kill-server`") from error
    if result.status:
        raise BenchError(f"`{program} devices` failed: {one_line(result.output)}; try `adb kill-server`")
    lines = result.output.partition("List of devices attached")[2].splitlines()
    return [_parse_device(line) for line in lines if line.strip() and not line.startswith("*")]


def choose_devices(serials: Sequence[str], program: str = "adb") -> list[AdbShell]:
    """Chooses the devices to measure on.

    Args:
        serials: Serials as listed by `adb devices`, or `all` for every ready device; may be empty if there is only one.
        program: The adb client.

    Raises:
        BenchError: If there is no device, a device is not ready, or the choice is ambiguous.
    """
    for serial in filter(_NETWORK.fullmatch, serials):
        _connect(program, serial)
    known = {device.serial: device for device in list_devices(program)}
    if not known:
        raise BenchError(_NONE_FOUND)
    chosen = _all_ready(known) if list(serials) == ["all"] else serials or _only_one(known)
    for serial in chosen:
        _check_ready(serial, known)
    return [AdbShell(serial, program) for serial in chosen]


def _all_ready(known: Mapping[str, AdbDevice]) -> Iterable[str]:
    """Returns the serials that are ready, and warns about the others; returns all of them if none is ready."""
    ready = [serial for serial, device in known.items() if device.state == READY]
    if not ready:
        return list(known)
    for serial, state, _ in known.values():
        if serial not in ready:
            log("warning", f"skipping {serial} ({state}); {remedy(state)}")
    return ready


def _only_one(known: Mapping[str, AdbDevice]) -> Iterable[str]:
    if len(known) > 1:
        listing = "; ".join(f"{device.serial} ({device.name or device.state})" for device in known.values())
        raise BenchError(f"{len(known)} devices; choose with --serial=A, --serial=A,B or --serial=all: {listing}")
    return list(known)


def _check_ready(serial: str, known: Mapping[str, AdbDevice]) -> None:
    if serial not in known:
        raise BenchError(f"device {serial} is missing; {remedy('missing')} (adb lists {', '.join(known)})")
    state = known[serial].state
    if state != READY:
        raise BenchError(f"device {serial}: {state}; {remedy(state)}")


def remedy(state: str) -> str:
    """Returns what to do about a device in a state other than `device`."""
    return _REMEDIES.get(state, "wait for it, or plug it in again")


def _connect(program: str, serial: str) -> None:
    """Connects to a device over the network; its state shows whether that worked."""
    with contextlib.suppress(OSError):  # no adb, or no response
        call([program, "connect", serial], QUICK_SECS)


def _parse_device(line: str) -> AdbDevice:
    """Parses a line such as `R58M12 device usb:1-4 product:a52 model:SM_A525F device:a52q transport_id:3`.

    A serial may contain spaces: `adb-R58M12-aBcD1e (2)._adb-tls-connect._tcp`.
    """
    match = _LINE.fullmatch(line.strip())
    serial, state = (match["serial"], match["denied"] or match["state"]) if match else (line.split() + ["missing"])[:2]
    model = re.search(r"\bmodel:(\S+)", line)
    return AdbDevice(serial, state, model[1].replace("_", " ") if model else "")

"""Android devices through adb. Every call names its device (`-s`), and every status is checked."""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from .plan import BenchError
from .run_progress import tell
from .shell import PUSH_SECS, QUICK_SECS, Done, Gone, Shell, call, one_line

FOLDER = "/data/local/tmp/android_bench"  # the one folder of a phone where a shell may write and execute
_NETWORK = re.compile(r".+:\d+")  # a serial such as 192.168.0.5:5555
_REMEDIES = {
    "unauthorized": "unlock the phone and allow USB debugging for this computer (docs/phones.md)",
    "authorizing": "unlock the phone and allow USB debugging for this computer (docs/phones.md)",
    "silent": "unplug it and plug it in again, or restart it",
    "offline": "unplug it and plug it in again, or switch USB debugging off and on",
    "no permissions": "this user may not open the USB device: install udev rules (apt install android-sdk-platform-"
    "tools-common), join the group plugdev, and plug it in again",
    "recovery": "start Android on it: adb reboot",
    "sideload": "start Android on it: adb reboot",
    "bootloader": "start Android on it: fastboot reboot",
    "missing": "plug it in, or look for its serial in `adb devices`",
}
_NONE_FOUND = (
    "no device: switch on USB debugging in the phone's developer options and plug it in (docs/phones.md), or "
    "--target=host to time on this machine"
)


class Found(NamedTuple):
    """A device that adb knows: `state` is `device` when it is ready."""

    serial: str
    state: str
    name: str


class Adb(Shell):
    """A device behind adb.

    Args:
        serial: As `adb devices` lists it.
        program: The adb client.
    """

    target = "adb"
    folder = FOLDER

    def __init__(self, serial: str, program: str = "adb") -> None:
        super().__init__(serial)
        self._program = program

    def push(self, local: Path, remote: str) -> None:
        """See `Shell.push`."""
        done = self._call([self._program, "-s", self.serial, "push", str(local), remote], PUSH_SECS)
        if done.status:
            message = f"{self.serial}: {local} could not be pushed to {remote}"
            own_words = done.output.replace(str(local), "")
            answered = any(words in own_words for words in ("remote", "No space", "cannot stat"))
            raise BenchError(f"{message}: {one_line(done.output)}") if answered else self._gone(done, message)

    def reconnect(self, stop: Callable[[], bool], patience: float) -> None:
        """See `Shell.reconnect`."""
        deadline = time.monotonic() + patience
        state, told = self._readiness(), None
        while not stop():
            if state == "device":
                return
            if time.monotonic() > deadline:
                raise BenchError(f"{self.serial}: not back after {patience:.0f} s ({state}): {remedy(state)}")
            if state != told:
                tell("waiting", [f"{self.serial} is {state}: {remedy(state)}"])
                told = state
            if _NETWORK.fullmatch(self.serial):
                self._adb("disconnect", self.serial)  # a dead connection stays "offline" otherwise
                self._adb("connect", self.serial)
            elif state in ("offline", "silent"):
                self._adb("-s", self.serial, "reconnect")
            time.sleep(0.5)
            state = self._readiness()

    @property
    def _argv(self) -> list[str]:
        return [self._program, "-s", self.serial, "shell"]

    def _state(self) -> str:
        return next((found.state for found in devices(self._program) if found.serial == self.serial), "missing")

    def _readiness(self) -> str:
        """Returns the state; `silent` for a device that adb believes to be there, but that does not answer."""
        state = self._state()
        try:
            return state if state != "device" or self.run("true").status == 0 else "silent"
        except (Gone, TimeoutError):
            return "silent"

    def _adb(self, *words: str) -> None:
        """Calls adb for its effect; whether it had one, the state tells."""
        try:
            self._call([self._program, *words], QUICK_SECS)
        except TimeoutError:
            pass

    def _lost(self, done: Done) -> BenchError:
        return self._gone(done, f"{self.serial}: the connection broke")

    def _gone(self, done: Done, message: str) -> Gone:
        state = self._state()
        if state == "unauthorized":
            return Gone(f"{self.serial} is {state}: {remedy(state)}")
        return Gone(f"{message}: {one_line(done.output) or state}")


def devices(program: str = "adb") -> list[Found]:
    """Lists the devices that adb knows, ready or not.

    Raises:
        BenchError: If there is no adb, or it fails.
    """
    try:
        done = call([program, "devices", "-l"], QUICK_SECS)
    except (FileNotFoundError, PermissionError) as error:
        way_out = "apt install adb, or Android's platform-tools; or --adb=PATH names it"
        raise BenchError(f"{program}: adb is not installed, or not on the PATH: {way_out}") from error
    except TimeoutError as error:
        raise BenchError(f"`{program} devices`: {error}: try `adb kill-server`") from error
    if done.status:
        raise BenchError(f"`{program} devices` failed: {one_line(done.output)}: try `adb kill-server`")
    lines = done.output.partition("List of devices attached")[2].splitlines()
    return [_found(line) for line in lines if line.strip() and not line.startswith("*")]


def choose(serials: Sequence[str], program: str = "adb") -> list[Adb]:
    """Chooses the devices to measure on.

    Args:
        serials: As `adb devices` lists them; `all` for every one that is ready; none where there is only one.
        program: The adb client.

    Raises:
        BenchError: If there is no device, one is not ready, or it is not clear which one is meant.
    """
    for serial in filter(_NETWORK.fullmatch, serials):
        _connect(program, serial)
    known = {found.serial: found for found in devices(program)}
    if not known:
        raise BenchError(_NONE_FOUND)
    if list(serials) == ["all"]:
        serials = [serial for serial, found in known.items() if found.state == "device"] or list(known)
        left = [found for found in known.values() if found.serial not in serials]
        tell("warning", [f"{serial} is {state}, and left out: {remedy(state)}" for serial, state, _ in left])
    if not serials and len(known) > 1:
        listing = "; ".join(f"{found.serial} ({found.name or found.state})" for found in known.values())
        raise BenchError(f"{len(known)} devices: choose with --serial=A or --serial=A,B or --serial=all: {listing}")
    for serial in serials or known:
        state = known[serial].state if serial in known else "missing"
        if state != "device":
            raise BenchError(f"device {serial} is {state}: {remedy(state)}{_others(known, serial)}")
    return [Adb(serial, program) for serial in serials or known]


def remedy(state: str) -> str:
    """Returns what to do about a device in a state other than `device`."""
    return _REMEDIES.get(state, "wait for it, or plug it in again")


def _connect(program: str, serial: str) -> None:
    """Connects to a device in the network; whether that worked, its state tells."""
    try:
        call([program, "connect", serial], QUICK_SECS)
    except OSError:  # no adb, or no answer
        pass


def _others(known: dict[str, Found], serial: str) -> str:
    others = [other for other in known if other != serial]
    return f" (adb lists {', '.join(others)})" if serial not in known and others else ""


def _found(line: str) -> Found:
    """Reads a line such as `R58M12 device usb:1-4 product:a52 model:SM_A525F device:a52q transport_id:3`."""
    serial, rest = (line.split(maxsplit=1) + [""])[:2]
    state = "no permissions" if rest.startswith("no permissions") else (rest.split() or ["missing"])[0]
    model = re.search(r"\bmodel:(\S+)", rest)
    return Found(serial, state, model[1].replace("_", " ") if model else "")

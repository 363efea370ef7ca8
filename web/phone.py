"""Opens the camera page on a phone over USB, as localhost through `adb reverse`, where browsers allow the camera."""

import contextlib
from collections.abc import Iterator

from fd_keras.android_bench import adb
from fd_keras.android_bench.shell import QUICK_SECS, call, one_line
from fd_keras.errors import ProgramError


def choose(serial: str = "", program: str = "adb") -> adb.AdbDevice:
    """Chooses the phone.

    Args:
        serial: Serial of the phone from `adb devices`; "" if only one is connected.
        program: The adb client.

    Raises:
        BenchError: If adb is not installed, no phone is ready, or several are connected and `serial` is "".
    """
    (shell,) = adb.choose_devices([serial] if serial else [], program)
    names = {device.serial: device.name for device in adb.list_devices(program)}
    return adb.AdbDevice(shell.serial, adb.READY, names.get(shell.serial) or shell.serial)


@contextlib.contextmanager
def opened(phone: adb.AdbDevice, port: int, address: str, program: str = "adb") -> Iterator[None]:
    """Opens an address of this machine in the phone's browser, and forwards the phone's port to it within the block.

    Args:
        phone: The phone.
        port: Port of the server on this machine, and on the phone.
        address: Address to open.
        program: The adb client.

    Raises:
        ProgramError: If the phone refuses or does not respond.
    """
    _call(program, phone.serial, "reverse", f"tcp:{port}", f"tcp:{port}")
    try:
        # The phone's shell splits the words again, so the address must be quoted.
        _call(program, phone.serial, "shell", "am", "start", "-a", "android.intent.action.VIEW", "-d", f"'{address}'")
        yield
    finally:
        with contextlib.suppress(OSError, TimeoutError):  # an unplugged phone has already dropped the port
            call([program, "-s", phone.serial, "reverse", "--remove", f"tcp:{port}"], QUICK_SECS)


def _call(program: str, serial: str, *words: str) -> None:
    try:
        result = call([program, "-s", serial, *words], QUICK_SECS)
    except TimeoutError as error:
        raise ProgramError(f"{serial}: `adb {words[0]}` did not respond; unlock the phone and try again") from error
    if result.status or "Error:" in result.output:
        raise ProgramError(f"{serial}: `adb {' '.join(words[:3])}` failed: {one_line(result.output)}")

"""Opens the page on a phone connected by USB; over `adb reverse` it is localhost, where browsers allow the camera."""

import contextlib
from collections.abc import Iterator

from fd_keras.android_bench import adb
from fd_keras.android_bench.shell import QUICK_SECS, call, one_line
from fd_keras.errors import ProgramError


def choose(serial: str = "", program: str = "adb") -> adb.AdbDevice:
    """Chooses the phone.

    Args:
        serial: Serial of the phone, as `adb devices` lists it; "" where only one is connected.
        program: The adb client.

    Raises:
        BenchError: If adb is missing, no phone is ready, or there are several and none is named.
    """
    (shell,) = adb.choose_devices([serial] if serial else [], program)
    names = {device.serial: device.name for device in adb.list_devices(program)}
    return adb.AdbDevice(shell.serial, adb.READY, names.get(shell.serial) or shell.serial)


@contextlib.contextmanager
def opened(phone: adb.AdbDevice, port: int, address: str, program: str = "adb") -> Iterator[None]:
    """Opens an address of this machine in the phone's browser, and forwards the phone's port to it within the block.

    Args:
        phone: The phone.
        port: Port of the server on this machine; the phone gets the same.
        address: Address to open.
        program: The adb client.

    Raises:
        ProgramError: If the phone refuses or does not answer.
    """
    _call(program, phone.serial, "reverse", f"tcp:{port}", f"tcp:{port}")
    try:
        # The shell of the phone splits the words again, so that the address must be quoted.
        _call(program, phone.serial, "shell", "am", "start", "-a", "android.intent.action.VIEW", "-d", f"'{address}'")
        yield
    finally:
        with contextlib.suppress(OSError, TimeoutError):  # a phone that was unplugged has dropped the port already
            call([program, "-s", phone.serial, "reverse", "--remove", f"tcp:{port}"], QUICK_SECS)


def _call(program: str, serial: str, *words: str) -> None:
    try:
        result = call([program, "-s", serial, *words], QUICK_SECS)
    except TimeoutError as error:
        raise ProgramError(f"{serial}: `adb {words[0]}` did not answer; unlock the phone and try again") from error
    if result.status or "Error:" in result.output:
        raise ProgramError(f"{serial}: `adb {' '.join(words[:3])}` failed: {one_line(result.output)}")

"""Opens the page on a phone behind a USB cable: its own port leads to this machine, as localhost, which is secure."""

from fd_keras.android_bench import adb
from fd_keras.android_bench.shell import QUICK_SECS, call, one_line
from fd_keras.errors import ProgramError


def open_page(port: int, address: str, serial: str = "", program: str = "adb") -> str:
    """Opens an address of this machine in a phone's browser.

    Args:
        port: Port of the server on this machine; the phone gets the same.
        address: What to open.
        serial: Of the phone, as `adb devices` lists it; "" where there is only one.
        program: The adb client.

    Returns:
        Name of the phone.

    Raises:
        BenchError: If there is no adb or no phone that is ready; says what to do.
        ProgramError: If the phone refuses.
    """
    (shell,) = adb.choose_devices([serial] if serial else [], program)
    _call(program, shell.serial, "reverse", f"tcp:{port}", f"tcp:{port}")
    # The shell of the phone reads the words once more, so that the address must be quoted.
    _call(program, shell.serial, "shell", "am", "start", "-a", "android.intent.action.VIEW", "-d", f"'{address}'")
    devices = {device.serial: device.name for device in adb.list_devices(program)}
    return devices.get(shell.serial) or shell.serial


def close(port: int, serial: str = "", program: str = "adb") -> None:
    """Takes the port from the phone again; a phone that is gone has lost it already."""
    words = [program, *(["-s", serial] if serial else []), "reverse", "--remove", f"tcp:{port}"]
    try:
        call(words, QUICK_SECS)
    except (OSError, TimeoutError):
        return


def _call(program: str, serial: str, *words: str) -> None:
    try:
        result = call([program, "-s", serial, *words], QUICK_SECS)
    except TimeoutError as error:
        raise ProgramError(f"{serial}: `adb {words[0]}` did not answer; unlock the phone and try again") from error
    if result.status or "Error:" in result.output:
        raise ProgramError(f"{serial}: `adb {' '.join(words[:3])}` failed: {one_line(result.output)}")

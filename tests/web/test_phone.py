"""The page on a phone: with a real adb and adbd, and with a fake adb for other answers."""

import pathlib
import subprocess

import pytest

from fd_keras.android_bench.errors import BenchError
from fd_keras.errors import ProgramError
from fd_keras.web import phone

DEVICES = "List of devices attached\nR58M device usb:1-4 product:a model:SM_A525F device:a transport_id:3\n"


ADDRESS = "http://127.0.0.1:8765/?a=1&b=2#save=x"  # a shell would split it at the ampersand


def reversed_ports(device) -> str:
    """The ports of a device that are forwarded to this machine."""
    command = [device.adb, "-s", device.serial, "reverse", "--list"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_port_is_forwarded_and_the_address_opened_on_a_device(device):
    device.write_command("am", "printf '%s\\n' \"$@\" > /fake/am")
    chosen = phone.choose(program=device.adb)
    assert chosen.name == chosen.serial == device.serial  # Debian's adbd has no model
    with phone.opened(chosen, 8765, ADDRESS, device.adb):
        assert reversed_ports(device).endswith("tcp:8765 tcp:8765")
    assert not reversed_ports(device)
    words = (device.root / "fake/am").read_text().splitlines()
    assert words == ["start", "-a", "android.intent.action.VIEW", "-d", ADDRESS]


def test_without_a_browser_the_port_is_no_longer_forwarded(device):
    device.write_command("am", "echo 'Error: Activity not started, unable to resolve Intent'")
    chosen = phone.choose(device.serial, device.adb)
    refused = pytest.raises(ProgramError, match="`adb shell am start` failed: Error: Activity not started")
    with refused, phone.opened(chosen, 8765, ADDRESS, device.adb):
        pass
    assert not reversed_ports(device)


def test_unplugging_the_device_is_not_an_error(device):
    device.write_command("am", "true")
    with phone.opened(phone.choose(program=device.adb), 8765, ADDRESS, device.adb):
        device.switch_off()


@pytest.fixture
def adb(tmp_path):
    """A function that writes a fake adb, which logs its arguments and lists the given devices."""

    def make(devices: str) -> tuple[str, pathlib.Path]:
        (tmp_path / "devices").write_text(devices)
        program = tmp_path / "adb"
        program.write_text(
            f'#!/bin/sh\necho "$*" >> {tmp_path}/log\ncase "$*" in devices*) cat {tmp_path}/devices;; esac\n'
        )
        program.chmod(0o755)
        return str(program), tmp_path / "log"

    return make


def test_a_phone_is_named_by_its_model(adb):
    program, log = adb(DEVICES)
    chosen = phone.choose(program=program)
    assert chosen.name == "SM A525F"
    with phone.opened(chosen, 8765, ADDRESS, program):
        pass
    assert "-s R58M reverse tcp:8765 tcp:8765" in log.read_text()


def test_a_missing_phone_or_adb_is_reported(adb, tmp_path):
    program, _ = adb("List of devices attached\n")
    with pytest.raises(BenchError, match="no device found; enable USB debugging.* with fd-keras bench --target=host"):
        phone.choose(program=program)
    with pytest.raises(BenchError, match="adb is not installed"):
        phone.choose(program=str(tmp_path / "none"))

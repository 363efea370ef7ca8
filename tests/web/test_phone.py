"""Opening the page on a phone: what adb is asked for, and what its answers lead to."""

import pathlib

import pytest

from fd_keras.android_bench.errors import BenchError
from fd_keras.errors import ProgramError
from fd_keras.web import phone

DEVICES = "List of devices attached\nR58M device usb:1-4 product:a model:SM_A525F device:a transport_id:3\n"


@pytest.fixture
def adb(tmp_path):
    """A program in adb's place that writes down its arguments; its answers to `devices` and `shell` are given."""

    def make(devices: str = DEVICES, shell: str = "Starting: Intent", status: int = 0) -> tuple[str, pathlib.Path]:
        (tmp_path / "devices").write_text(devices)
        (tmp_path / "shell").write_text(shell)
        program = tmp_path / "adb"
        program.write_text(
            f'#!/bin/sh\necho "$*" >> {tmp_path}/log\ncase "$*" in devices*) cat {tmp_path}/devices;; '
            f"*shell*) cat {tmp_path}/shell; exit {status};; esac\n"
        )
        program.chmod(0o755)
        return str(program), tmp_path / "log"

    return make


def test_the_port_is_led_here_and_the_page_opened(adb):
    program, log = adb()
    assert phone.open_page(8765, "http://127.0.0.1:8765/#save=x", program=program) == "SM A525F"
    phone.close(8765, program=program)
    asked = log.read_text().splitlines()
    assert "-s R58M reverse tcp:8765 tcp:8765" in asked
    assert "-s R58M shell am start -a android.intent.action.VIEW -d 'http://127.0.0.1:8765/#save=x'" in asked
    assert asked[-1] == "reverse --remove tcp:8765"


def test_a_phone_without_a_browser_is_explained(adb):
    program, _ = adb(shell="Error: Activity not started, unable to resolve Intent", status=1)
    with pytest.raises(ProgramError, match="R58M: `adb shell am start` failed: Error: Activity not started"):
        phone.open_page(8765, "http://127.0.0.1:8765/", program=program)


def test_without_a_phone_or_adb_it_is_said_what_to_do(adb, tmp_path):
    program, _ = adb(devices="List of devices attached\n")
    with pytest.raises(BenchError, match="no device found: switch on USB debugging"):
        phone.open_page(8765, "http://127.0.0.1:8765/", program=program)
    with pytest.raises(BenchError, match="adb is not installed"):
        phone.open_page(8765, "http://127.0.0.1:8765/", program=str(tmp_path / "none"))
    phone.close(8765, program=str(tmp_path / "none"))

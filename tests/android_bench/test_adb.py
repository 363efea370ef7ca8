"""The adb client against a real adbd; see `conftest.Phone`."""

import re
import subprocess

import pytest

from fd_keras.android_bench import adb, shell
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.shell import ConnectionLostError


def test_exit_statuses_and_output_come_from_the_device(phone):
    shell = adb.AdbShell(phone.serial, phone.adb)
    assert shell.run("echo out; echo err >&2; exit 7") == (7, "out\nerr\n")
    assert shell.run("sh -c 'kill -9 $$'").status == 137
    assert shell.run("printf 'no newline'") == (0, "no newline")
    with pytest.raises(BenchError, match="`false` failed with status 1"):
        shell.check("false")
    with pytest.raises(TimeoutError, match="within 0.01 s"):
        shell.run("sleep 60", timeout=0.01)


def test_a_killed_shell_is_a_lost_connection(phone):
    with pytest.raises(ConnectionLostError):
        adb.AdbShell(phone.serial, phone.adb).run("kill -9 $PPID $$")


def test_an_unknown_device_is_reported_as_lost(phone):
    with pytest.raises(ConnectionLostError, match="not found"):
        adb.AdbShell("nosuch", phone.adb).run("true")


def test_a_lost_device_is_reported_for_any_file_name(phone, tmp_path):
    local = tmp_path / "remote"
    local.write_text("No space left")
    phone.switch_off()
    with pytest.raises(ConnectionLostError):
        adb.AdbShell(phone.serial, phone.adb).push(local, "/data/local/tmp/file")


def test_devices_are_chosen_by_serial(phone):
    (chosen,) = adb.choose_devices([], phone.adb)
    assert chosen.serial == phone.serial
    with pytest.raises(BenchError, match=rf"device nosuch is missing; .* \(adb lists {re.escape(phone.serial)}\)"):
        adb.choose_devices(["nosuch"], phone.adb)
    subprocess.run([phone.adb, "disconnect"], capture_output=True)
    with pytest.raises(BenchError, match="no device found; enable USB debugging"):
        adb.choose_devices([], phone.adb)
    (chosen,) = adb.choose_devices([phone.serial], phone.adb)  # connects to network devices
    assert chosen.run("true").status == 0


MDNS = "adb-R58M12XYZ-aBcD1e (2)._adb-tls-connect._tcp"


@pytest.mark.parametrize("serial", [MDNS, "my device (2)._adb._tcp", "192.168.0.5:5555", "emulator-5554", "R58M12"])
@pytest.mark.parametrize(
    ("rest", "state", "name"),
    [
        ("device usb:1-4 product:a52 model:SM_A525F device:a52q transport_id:3", "device", "SM A525F"),
        ("device", "device", ""),
        ("unauthorized usb:1-4 transport_id:3", "unauthorized", ""),
        ("no permissions (missing udev rules? user is in plugdev); see [http://d.a.com] usb:1", "no permissions", ""),
        ("offline", "offline", ""),
    ],
)
def test_lines_of_adb_devices_are_parsed_for_any_serial(serial, rest, state, name):
    assert adb._parse_device(f"{serial:<22} {rest}") == (serial, state, name)


def test_a_serial_may_contain_spaces(tmp_path):
    client = tmp_path / "adb"
    listing = f"List of devices attached\\n{MDNS} device product:p model:Pixel_7 device:d transport_id:4\\n"
    client.write_text(f'#!/bin/sh\n[ "$1" = devices ] && printf \'{listing}\' && exit\necho "$2" >> {tmp_path}/asked\n')
    client.chmod(0o755)
    for serials in ([], [MDNS], ["all"]):
        (chosen,) = adb.choose_devices(serials, str(client))
        assert chosen.serial == MDNS
    with pytest.raises(BenchError):
        chosen.run("true")
    assert (tmp_path / "asked").read_text() == f"{MDNS}\n"


@pytest.mark.parametrize(
    ("state", "way_out"),
    [
        ("unauthorized", "allow USB debugging for this computer"),
        ("offline", "unplug it and plug it in again"),
        ("no permissions (user in plugdev group; are your udev rules wrong?); see [web]", "install udev rules"),
        ("recovery", "adb reboot"),
    ],
)
def test_the_error_for_an_unready_device_says_what_to_do(tmp_path, state, way_out):
    client = _client(tmp_path, f"R58M12 {state} usb:1-4 transport_id:1")
    with pytest.raises(BenchError, match=f"device R58M12: {state.partition(' (')[0]}; .*{way_out}"):
        adb.choose_devices([], client)


def test_a_device_without_authorization_is_lost_with_advice(tmp_path):
    client = _client(tmp_path, "A unauthorized")
    with pytest.raises(ConnectionLostError, match="A: unauthorized; unlock the phone and allow USB debugging"):
        adb.AdbShell("A", client).run("true")
    with pytest.raises(BenchError, match="A: did not come back within 0 s .unauthorized.; unlock the phone"):
        adb.AdbShell("A", client).reconnect(lambda: False, 0)


def _client(tmp_path, *lines):
    """A fake adb client, for states that a real device cannot have."""
    path = tmp_path / "adb"
    listing = "".join(f"echo '{line}'\n" for line in ("List of devices attached", *lines))
    path.write_text(f"#!/bin/sh\n{listing}")
    path.chmod(0o755)
    return str(path)


def test_serial_all_selects_ready_devices_and_reports_the_others(tmp_path, capsys):
    client = _client(tmp_path, "A device model:Phone_7", "B unauthorized", "C device")
    assert [shell.serial for shell in adb.choose_devices(["all"], client)] == ["A", "C"]
    assert capsys.readouterr().err.startswith("warning: skipping B (unauthorized); unlock the phone")
    with pytest.raises(BenchError, match="device B: unauthorized"):
        adb.choose_devices(["all"], _client(tmp_path, "B unauthorized"))


def test_a_network_device_that_does_not_respond_is_missing(tmp_path, monkeypatch):
    requests = []

    def call(argv, timeout):
        requests.append(argv[1:])
        if argv[1] == "connect":
            raise TimeoutError("no answer within 30 s")
        return shell.call(argv, timeout)

    monkeypatch.setattr(adb, "call", call)
    with pytest.raises(BenchError, match="device 192.0.2.1:5555 is missing"):
        adb.choose_devices(["192.0.2.1:5555"], _client(tmp_path, "A device"))
    assert requests[0] == ["connect", "192.0.2.1:5555"]


@pytest.mark.parametrize(
    ("script", "message"), [("echo broken; exit 1", "failed: broken"), ("sleep 60", "no answer within 0.01 s")]
)
def test_an_adb_that_fails_or_hangs_is_reported(tmp_path, monkeypatch, script, message):
    path = tmp_path / "adb"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    if "0.01" in message:
        monkeypatch.setattr(adb, "QUICK_SECS", 0.01)
    with pytest.raises(BenchError, match=f"{message}; try `adb kill-server`"):
        adb.list_devices(str(path))

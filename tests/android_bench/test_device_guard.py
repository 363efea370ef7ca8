"""Runs that share a device, and all ways in which a run ends, on a real adbd; see `conftest.Phone`."""

import getpass
import os
import platform
import signal
import subprocess
import sys

import pytest

from fd_keras.android_bench import adb
from fd_keras.android_bench.device_guard import DeviceGuard
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.launcher import Launcher
from fd_keras.android_bench.results import read_rows
from fd_keras.android_bench.shell import ConnectionLostError, Shell
from fd_keras.android_bench.ssh import SshShell

LOCK = f"{adb.FOLDER}.lock"


@pytest.fixture
def shell(phone):
    return adb.AdbShell(phone.serial, phone.adb)


@pytest.fixture
def start(flags):
    """A function that starts the program in a process that can be killed."""
    started = []

    def start_one(*others):
        command = [sys.executable, "-m", "android_bench.run", *flags, *others]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


def _lock(phone):
    return os.path.lexists(phone.root / LOCK.lstrip("/"))


def _tools(phone):
    return phone.adb_shell("pgrep -f '[-]-graph='").stdout


def test_a_second_run_reports_the_holder_of_the_lock(shell, bench, tmp_path, capsys):
    guard = DeviceGuard(shell)
    guard.acquire()
    guard.acquire()  # again, as after a lost connection
    assert bench() == 2
    assert f"another run is measuring on it, held by {_user()}, process {os.getpid()}, since" in capsys.readouterr().err
    assert bench("--clean_only") == 2
    guard.close()
    assert bench() == 0
    assert len(read_rows(tmp_path / "out")) == 2


def _user():
    return f"{getpass.getuser()}@{platform.node()}"


def test_only_the_tool_of_this_run_is_killed(shell, phone, bench):
    phone.write(f"{adb.FOLDER}/other", "sleep 600; true\n")
    phone.adb_shell(f"exec <&- >&- 2>&-; sh {adb.FOLDER}/other --graph=x &")
    other = _tools(phone)
    assert bench() == 0
    assert _tools(phone) == other
    phone.adb_shell(f"kill {other}")


def test_a_tool_that_outlived_its_connection_is_killed_before_the_next_launch(phone, bench, monkeypatch):
    launch, lost = Launcher.run, []

    def lose_once(self, *others):
        if not lost:
            lost.append(True)
            phone.write(f"{adb.FOLDER}/hung", "sleep 600; true\n")
            hung = self._guard.command(f"sh {adb.FOLDER}/hung --graph=x")
            phone.adb_shell(f"exec <&- >&- 2>&-; {hung} &")
            assert _tools(phone)
            raise ConnectionLostError("the connection broke")
        assert not _tools(phone)
        return launch(self, *others)

    monkeypatch.setattr(Launcher, "run", lose_once)
    assert bench() == 0


def test_a_stale_lock_is_taken_over_and_its_tool_killed(shell, phone, bench):
    phone.write(f"{adb.FOLDER}/old", "sleep 600; true\n")
    phone.adb_shell(f"exec <&- >&- 2>&-; sh {adb.FOLDER}/old --graph=x &")
    phone.write(f"{LOCK}.0123", _tools(phone))
    os.symlink("999999 0123 someone@somewhere, process 7, since then", phone.root / LOCK.lstrip("/"))
    assert bench() == 0
    assert not _tools(phone)
    assert not _lock(phone)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_all_signals_release_the_device(phone, start, wait_until, number):
    phone.write_command("getprop", "case $1 in *model) echo Phone 7;; *release) echo 14;; esac")
    phone.write_command("cmd", "echo $3 >> /fake/power")
    phone.hang(1)
    process = start()
    wait_until(phone.calls)
    assert _lock(phone)
    process.send_signal(number)
    if number != signal.SIGKILL:  # after the first signal, the launch continues (it hangs)
        assert any("stopping after this launch" in line for line in process.stdout)
        process.send_signal(number)
    process.wait()
    wait_until(lambda: not _lock(phone))
    wait_until(lambda: not _tools(phone))  # killed before the lock was freed, but may still be ending
    assert (phone.root / "fake/power").read_text().split()[-1] == "false"


def test_a_device_is_also_locked_over_ssh(board):
    first, second = (DeviceGuard(SshShell("root@127.0.0.1", board.ssh)) for _ in range(2))
    first.acquire()
    with pytest.raises(BenchError, match="held by"):
        second.acquire()
    first.close()
    second.acquire()
    second.close()


def test_this_machine_is_not_locked():
    first, second = DeviceGuard(Shell()), DeviceGuard(Shell())
    for guard in (first, second):
        guard.acquire()
    for guard in (first, second):
        guard.close()
        assert not os.path.lexists(guard.tool_file.rpartition(".")[0])


def test_a_lock_that_cannot_be_written_is_reported(tmp_path):
    shell = Shell()
    shell.folder = "/proc/nowhere"
    with pytest.raises(BenchError, match="cannot write /proc/nowhere.lock"):
        DeviceGuard(shell).acquire()

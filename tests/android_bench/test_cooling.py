"""Temperature and clocks of a test device; see `conftest.Phone`."""

import pytest

from fd_keras.android_bench import adb, cooling
from fd_keras.android_bench.device_settings import DeviceSettings
from fd_keras.android_bench.launcher import Launcher
from fd_keras.android_bench.results import read_rows
from fd_keras.android_bench.shell import ConnectionLostError

CPU = "/sys/devices/system/cpu"
ZONE = "/sys/class/thermal/thermal_zone0"


@pytest.fixture
def hot(phone):
    """A device at 60 degrees."""
    phone.write(f"{ZONE}/type", "cpu\n")
    phone.write(f"{ZONE}/temp", "60\n")
    return adb.AdbShell(phone.serial, phone.adb)


def test_a_hot_device_cools_down_first(bench, hot, phone, monkeypatch):
    messages = []

    def cool(*message):
        messages.append((*message, len(phone.calls())))
        phone.write(f"{ZONE}/temp", "35\n")

    monkeypatch.setattr(cooling, "log", cool)
    monkeypatch.setattr(cooling, "_POLL_SECS", 0)
    assert bench("--max_temp=40") == 0
    assert messages == [("waiting", f"{phone.serial} is at 60 degrees (cpu): cooling down to 40", 0)]


def test_a_device_that_stays_hot_is_measured_and_flagged(bench, hot, tmp_path, monkeypatch):
    monkeypatch.setattr(DeviceSettings, "__post_init__", lambda self: object.__setattr__(self, "max_wait", 0))
    assert bench("--max_temp=40", "--repeats=0") == 0
    flags = ["60 degrees, above --max_temp=40"]
    assert [row.flags for row in read_rows(tmp_path / "out")] == [flags, flags]


def test_cooling_down_can_be_stopped(hot):
    asked = []

    def stop():
        asked.append(True)
        return len(asked) > 3

    settings = DeviceSettings(cooldown=0, max_temp=40)
    assert cooling.cool_down(hot, settings, stop) == []


def test_there_is_a_pause_before_each_launch(bench, monkeypatch):
    rests = []
    monkeypatch.setattr(cooling, "sleep", lambda seconds, stop: rests.append(seconds))
    assert bench("--cooldown=7") == 0
    assert rests == [7, 7]


def test_sleeping_can_be_stopped():
    cooling.sleep(3600, lambda: True)


def test_a_temperature_limit_without_a_sensor_is_reported(bench, capsys):
    assert bench("--max_temp=40") == 0
    assert "does not report its temperature: --max_temp=40 has no effect" in capsys.readouterr().err


def test_fixed_clocks_are_not_mistaken_for_throttling(bench, phone, tmp_path):
    phone.set_cores()
    cap = f"{CPU}/cpu1/cpufreq/scaling_max_freq"
    phone.write_command("getprop", "case $1 in *model) echo Phone 7;; esac")
    phone.write_command("cmd", f"case $3 in true) echo 1500000;; *) echo 2400000;; esac > {cap}")
    assert bench() == 0
    rows = read_rows(tmp_path / "out")
    assert {row.conditions.before["max_mhz"]["1"] for row in rows} == {1500}
    assert not any(row.flags for row in rows)
    assert (phone.root / cap.lstrip("/")).read_text() == "2400000\n"


@pytest.fixture
def power(phone):
    """A function that returns the settings of the fixed-performance mode of a phone so far."""
    phone.write_command("getprop", "case $1 in *model) echo Phone 7;; *release) echo 14;; esac")
    phone.write_command("cmd", "echo $* >> /fake/power")
    prefix = "power set-fixed-performance-mode-enabled "
    return lambda: [line.removeprefix(prefix) for line in (phone.root / "fake/power").read_text().splitlines()]


def test_a_phones_clocks_are_fixed_and_always_released(bench, power):
    assert bench() == 0
    assert power() == ["true", "false"]
    assert bench("--baseline=nosuch") == 2
    assert power() == ["true", "false"] * 2
    assert bench("--no-fixed_performance", "--fresh") == 0
    assert power() == ["true", "false"] * 2


def test_clocks_are_fixed_again_after_a_reboot(bench, power, monkeypatch):
    launch = Launcher.run

    def lose(*_):
        monkeypatch.setattr(Launcher, "run", launch)
        raise ConnectionLostError("the connection broke")

    monkeypatch.setattr(Launcher, "run", lose)
    assert bench() == 0
    assert power() == ["true", "true", "false"]

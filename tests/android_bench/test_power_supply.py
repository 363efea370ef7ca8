"""Readings of batteries that are laid out as on real devices, through a real adbd.

- kernel: Documentation/ABI/testing/sysfs-class-power (µA, µV, negative while discharging; the scope Device of mice).
- Pixel 3a on USB without charging: github.com/MatteCarra/AccA/issues/35.
- a Snapdragon 865 whose sign is flipped: github.com/armada-os/armada/issues/466.
- mA on a Galaxy S20 FE: github.com/Ph03niX-X/CapacityInfo/issues/35.
- `cmd battery get current_now` and `dumpsys battery`: BatteryService.java of Android.
"""

import shutil

import pytest

from fd_keras.android_bench.adb import AdbShell
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.power_supply import (
    SERVICE,
    check_discharging,
    parse_readings,
    reading_script,
    sampled_command,
)

SUPPLY = "/sys/class/power_supply"
BATTERY = {"type": "Battery", "status": "Discharging", "current_now": -412000, "voltage_now": 3815175, "capacity": 44}
USB = {"type": "USB", "online": 0, "current_max": 500000}
DUMP = "Current Battery Service state:\n  AC powered: false\n  USB powered: {}\n  status: 3\n  voltage: 4312\n"


@pytest.fixture
def supplies(phone):
    """A function that adds power supplies to the device (files by name, by supply) and returns three readings."""

    def read(count=3, **named):
        for supply, files in named.items():
            for name, value in files.items():
                phone.write(f"{SUPPLY}/{supply}/{name}", f"{value}\n")
        return parse_readings(AdbShell(phone.serial, phone.adb).check(reading_script(count)))

    return read


def _service(phone, usb="false", head=""):
    phone.write_command("cmd", '[ "$*" = "battery get -f current_now" ] && echo -350000')
    phone.write_command("dumpsys", f"cat <<'END'\n{head}{DUMP.format(usb)}END")


def test_a_discharging_battery_is_read(supplies):
    readings = supplies(battery=BATTERY, usb=USB)
    assert readings == [(f"{SUPPLY}/battery", -412000, 3815175, None, "Discharging", "")] * 3
    check_discharging(readings)


def test_power_of_a_laptop_is_read_and_the_battery_of_a_mouse_ignored(supplies):
    mouse = {"type": "Battery", "scope": "Device", "current_now": 5, "voltage_now": 5}
    laptop = {"type": "Battery", "status": "Discharging", "power_now": 9_420_000, "voltage_now": 12_100_000}
    readings = supplies(AAA_mouse=mouse, AC={"type": "Mains", "online": 0}, BAT0=laptop)
    assert readings == [(f"{SUPPLY}/BAT0", None, 12_100_000, 9_420_000, "Discharging", "")] * 3
    check_discharging(readings)


def test_the_service_is_used_if_the_shell_cannot_read_the_files(supplies, phone):
    _service(phone)
    readings = supplies(battery={"type": "Battery", "capacity": 50})
    assert readings == [(SERVICE, -350000, 4312, None, "3", "")] * 3
    check_discharging(readings)


def test_a_charging_battery_is_rejected(supplies, phone):
    for named, message in (
        ({"battery": BATTERY, "usb": {**USB, "online": 1}}, "a charger is connected"),
        ({"battery": BATTERY, "wireless": {"type": "Wireless", "online": 1}}, "a charger is connected"),
        ({"battery": BATTERY, "usb": {"type": "USB_PD", "online": 2}}, "a charger is connected"),
        ({"battery": {**BATTERY, "status": "Charging"}}, "not discharging .status Charging"),
        ({"battery": {**BATTERY, "status": "Not charging", "current_now": 976}}, "not discharging"),
        ({"battery": {**BATTERY, "status": "Full"}}, "not discharging"),
    ):
        shutil.rmtree(phone.root / SUPPLY.lstrip("/"), ignore_errors=True)
        with pytest.raises(BenchError, match=message) as raised:
            check_discharging(supplies(1, **named))
        assert "adb tcpip" in str(raised.value)


@pytest.mark.parametrize(
    ("usb", "head", "message"),
    [
        ("true", "", "a charger is connected"),
        ("false", "  (UPDATES STOPPED -- use 'reset' to restart)\n", "dumpsys battery reset"),
    ],
)
def test_a_service_that_shows_a_charger_or_fake_values_is_rejected(supplies, phone, usb, head, message):
    _service(phone, usb, head)
    with pytest.raises(BenchError, match=message):
        check_discharging(supplies(1))


def test_a_device_without_a_battery_has_readings_without_values(supplies):
    readings = supplies(1)
    assert readings == [(SERVICE, None, None, None, "", "")]
    with pytest.raises(BenchError, match="does not report its battery current"):
        check_discharging(readings)


def test_values_that_are_not_numbers_and_other_lines_are_ignored():
    text = "hello\nx|1|2|3|Unknown|\nx|<unknown>|nan|" + "9" * 500 + "|Discharging|\n\n"
    assert parse_readings(text) == [("x", 1, 2, 3, "Unknown", ""), ("x", None, None, None, "Discharging", "")]


def test_a_command_is_sampled_until_it_has_ended(phone):
    for name, value in BATTERY.items():
        phone.write(f"{SUPPLY}/battery/{name}", f"{value}\n")
    script = sampled_command("sleep 1; echo done; exit 3", "CUT")
    output = AdbShell(phone.serial, phone.adb).check(f"{script}\necho; echo CUT\necho $s")
    printed, readings, status = output.split("CUT\n")
    assert (printed.strip(), status.strip()) == ("done", "3")
    assert set(parse_readings(readings)) == {(f"{SUPPLY}/battery", -412000, 3815175, None, "Discharging", "")}

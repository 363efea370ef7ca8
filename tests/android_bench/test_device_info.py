"""Facts and state, parsed from shell output and read from a test device."""

import os
from types import SimpleNamespace

import pytest

from fd_keras.android_bench import adb, device_info
from fd_keras.android_bench.results import read_rows

CPU = "/sys/devices/system/cpu"
ZONE = "/sys/class/thermal/thermal_zone"
CORES = [
    *({"number": n, "khz": 1_800_000, "capacity": 400} for n in range(4)),
    *({"number": n, "khz": 1_700_000, "capacity": 1024} for n in range(4, 8)),
]


def test_a_32_bit_system_on_a_64_bit_kernel_has_32_bit_abis():
    assert device_info._abis({"abis": "", "abi": ""}, "aarch64", "32") == ["armeabi-v7a"]
    assert device_info._abis({"abis": "", "abi": ""}, "aarch64", "64") == ["arm64-v8a"]
    assert device_info._abis({"abis": "arm64-v8a,armeabi-v7a", "abi": ""}, "aarch64", "64") == [
        "arm64-v8a",
        "armeabi-v7a",
    ]


def test_the_state_of_a_phone_is_parsed():
    text = "\n".join(
        [
            f"{CPU}/cpu0/cpufreq/scaling_governor=schedutil",
            f"{CPU}/cpu0/cpufreq/scaling_cur_freq=300000",
            f"{CPU}/cpu0/cpufreq/scaling_max_freq=1800000",
            f"{CPU}/cpu0/cpufreq/stats/time_in_state=300000 5",
            f"{CPU}/cpu0/cpufreq/stats/time_in_state=1800000 7",
            f"{ZONE}0/type=battery", f"{ZONE}0/temp=99000",
            f"{ZONE}1/type=cpu-0-0-usr", f"{ZONE}1/temp=41200",
            f"{ZONE}2/type=cpu-0-1-usr", f"{ZONE}2/temp=-274000",
            "/proc/loadavg=1.50 1.0 0.9 1/99 4242",
            "battery.level=15", "battery.status=3", "battery.temperature=311", "thermal_status=2", "low_power=1",
        ]
    )  # fmt: skip
    state = device_info.parse_state(text)
    assert state["governor"] == {"0": "schedutil"}
    assert state["max_mhz"] == {"0": 1800.0}
    assert state["residency"] == {"0": {"300000": 5, "1800000": 7}}
    assert (state["temperature"], state["thermal_status"], state["load"]) == (41.2, 2, 1.5)
    found = " ".join(device_info.state_warnings(state, {"kind": "phone", "cores": []}))
    assert "battery is at 15%" in found
    assert "battery saver is on" in found
    assert "thermal status 2" in found


def test_a_device_that_reports_nothing_has_empty_facts():
    state = device_info.parse_state("low_power=\n")
    assert (state["temperature"], state["thermal_status"], state["low_power"], state["load"]) == (None,) * 4
    assert "does not report its clock" in " ".join(device_info.state_warnings(state, {"kind": "phone", "cores": []}))
    assert device_info.state_warnings(state, {"kind": "board", "cores": []}) == []


def test_values_that_are_not_numbers_are_ignored():
    text = "\n".join(
        [
            f"{CPU}/cpu0/cpufreq/scaling_governor=", f"{CPU}/cpu0/cpufreq/scaling_cur_freq=<unknown>",
            f"{CPU}/cpu0/cpufreq/scaling_max_freq=", f"{CPU}/cpu0/cpufreq/stats/time_in_state=<unsupported> 7",
            f"{ZONE}0/type=cpu", f"{ZONE}0/temp=<unsupported>", "/proc/loadavg=?", "battery.level=", "thermal_status=?",
        ]
    )  # fmt: skip
    state = device_info.parse_state(text)
    assert not any((state["governor"], state["mhz"], state["max_mhz"], state["residency"]["0"], state["battery"]))
    assert (state["temperature"], state["thermal_status"], state["load"]) == (None,) * 3
    told = {f"{CPU}/online": ["all"], f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": ["<unknown>"]}
    assert device_info._cores(told) == []


def test_implausible_numbers_are_ignored():
    nines = "9" * 5000
    text = "\n".join(
        [
            f"{CPU}/cpu0/cpufreq/scaling_max_freq={nines}", f"{CPU}/cpu0/cpufreq/stats/time_in_state={nines} {nines}",
            f"{ZONE}0/type=cpu", f"{ZONE}0/temp={nines}", f"/proc/loadavg={nines}", f"battery.level={nines}",
            "battery.status=²", f"thermal_status={nines}",
        ]
    )  # fmt: skip
    state = device_info.parse_state(text)
    assert not any(state[name] for name in ("max_mhz", "battery", "temperature", "thermal_status", "load"))
    assert device_info._ranges("0-3,6") == [0, 1, 2, 3, 6]
    assert device_info._ranges(f"0-{nines}") == [0]


def test_a_core_that_is_capped_from_the_start_is_reported():
    state = device_info.parse_state(
        f"{CPU}/cpu7/cpufreq/scaling_max_freq=1000000\n{CPU}/cpu0/cpufreq/scaling_max_freq=1800000"
    )
    (warning,) = device_info.state_warnings(state, {"kind": "phone", "cores": CORES})
    assert warning.startswith("core 7 is capped at 1000 of its 1700 MHz")


def test_the_thermal_service_is_used_if_zones_are_unreadable():
    service = "processor_temp=40.5\nprocessor_temp=44.0\nprocessor_temp=0.0\n"
    assert device_info.parse_state(service)["temperature"] == 44.0
    battery = f"{ZONE}0/type=battery\n{ZONE}0/temp=31000\n"
    assert device_info.parse_state(battery + service)["temperature"] == 44.0
    assert (
        device_info.parse_state(f"{ZONE}1/type=cpu-0\n{ZONE}1/temp=50000\n" + battery + service)["temperature"] == 50.0
    )


def test_the_mean_clock_is_computed_from_two_states():
    before, after = {"7": {"600000": 100, "2400000": 10}}, {"7": {"600000": 110, "2400000": 40}}
    assert device_info.busy_mhz(before, after, [7]) == 1950
    assert device_info.busy_mhz({}, {}, [7]) is None
    assert device_info.busy_mhz(before, before, [7]) is None


def test_a_plain_linux_device_is_a_board(phone):
    facts = device_info.read_facts(adb.AdbShell(phone.serial, phone.adb))
    assert facts["kind"] == "board"
    assert facts["abis"] == [os.uname().machine]
    assert facts["taskset"]
    assert device_info.read_state(adb.AdbShell(phone.serial, phone.adb))["max_mhz"] == {}


def test_state_is_read_before_and_after(bench, phone, tmp_path, capsys):
    phone.set_cores()
    zone = "/sys/class/thermal/thermal_zone"
    for number, (kind, value) in enumerate({"battery": 99000, "cpu-1-0": 41500, "gpu": -274000}.items()):
        phone.write(f"{zone}{number}/type", f"{kind}\n")
        phone.write(f"{zone}{number}/temp", f"{value}\n")
    phone.write_command("dumpsys", '[ $1 = battery ] && printf "  level: 15\\n  status: 3\\n  temperature: 311\\n"')
    assert bench() == 0
    (row, *_) = read_rows(tmp_path / "out")
    assert row.conditions.before["temperature"] == row.conditions.after["temperature"] == 41.5
    assert row.conditions.before["battery"] == {"percent": 15, "charging": False, "temperature": 31.1}
    assert "the battery is at 15%" in capsys.readouterr().err


def _kind(target="adb", **properties):
    lines = ["arch=aarch64", "kernel=5.15", "bits=64", "taskset=/bin/taskset"]
    lines += [f"ro.{name.replace('_', '.')}={value}" for name, value in properties.items()]
    return device_info.read_facts(SimpleNamespace(target=target, check=lambda _: "\n".join(lines)))["kind"]


@pytest.mark.parametrize(
    "emulated", [{"kernel_qemu": "1"}, {"boot_qemu": "1"}, {"hardware": "ranchu"}, {"hardware": "cutf_cvm"}]
)
def test_an_emulator_is_distinguished_from_a_phone(emulated):
    assert _kind(product_model="Phone 7") == "phone"
    assert _kind(product_model="Phone 7", **emulated) == "emulator"
    assert _kind() == "board"
    assert _kind("host") == "host"

"""What is read of a device, without one: `test_bench_adb.py` has the real thing."""

import pytest

from fd_keras.android_bench import device_info
from fd_keras.android_bench.plan import BenchError

CPU = "/sys/devices/system/cpu"
ZONE = "/sys/class/thermal/thermal_zone"


def _facts(*cores, taskset=True):
    cores = [{"number": n, "khz": khz, "capacity": capacity} for n, (khz, capacity) in enumerate(cores)]
    return {"name": "Phone 7", "cores": cores, "taskset": taskset, "abis": ["arm64-v8a"]}


FOUR_AND_FOUR = _facts(*[(1_800_000, 400)] * 4, *[(1_700_000, 1024)] * 4)  # the big ones have the lower clock


@pytest.mark.parametrize(
    ("choice", "threads", "cores"),
    [("big", 1, [7]), ("big", 2, [6, 7]), ("little", 1, [0]), ("little", 2, [0, 1]), ("c0", 1, [6, 7]), ("any", 1, [])],
)
def test_cores_are_chosen_by_capacity_then_clock(choice, threads, cores):
    assert device_info.choose_cores(FOUR_AND_FOUR, choice, threads) == (cores, [])


def test_more_threads_than_cores_of_a_kind_is_told():
    cores, (warning,) = device_info.choose_cores(FOUR_AND_FOUR, "big", 6)
    assert cores == [4, 5, 6, 7]
    assert "6 threads on the 4 big cores" in warning


def test_cores_that_cannot_be_told_apart_are_told():
    cores, (warning,) = device_info.choose_cores(_facts((None, None), (None, None)), "big", 1)
    assert cores == [1]
    assert "does not tell how fast its cores are: --core=big takes the last one" in warning


def test_a_mask_of_absent_cores_is_refused():
    with pytest.raises(BenchError, match="--core=100 names core 8, but Phone 7 has cores 0, 1"):
        device_info.choose_cores(FOUR_AND_FOUR, "100", 1)


def test_masks_and_words_for_cores():
    assert device_info.mask([7]) == "80"
    assert device_info.mask([0, 1]) == "3"
    assert device_info.describe_cores(FOUR_AND_FOUR["cores"]) == "4 x 1.70 GHz + 4 x 1.80 GHz"


@pytest.mark.parametrize(
    ("head", "abi"),
    [
        (b"\x7fELF\x02\x01" + bytes(10) + b"\x03\0\xb7\0", "arm64-v8a"),
        (b"\x7fELF\x01\x01" + bytes(10) + b"\x03\0\x28\0", "armeabi-v7a"),
        (b"\x7fELF\x02\x01" + bytes(10) + b"\x03\0\x3e\0", "x86_64"),
        (b"#!/bin/sh\n", None),
    ],
)
def test_what_a_binary_is_built_for(tmp_path, head, abi):
    (tmp_path / "tool").write_bytes(head + bytes(50))
    assert device_info.elf_abi(tmp_path / "tool") == abi


@pytest.mark.parametrize("content", [b"", b"PK\3\4 a zip file of some length", b"\x7fELF\x02\x01"])
def test_what_is_no_binary_is_named(tmp_path, content):
    (tmp_path / "tool").write_bytes(content)
    with pytest.raises(BenchError, match="tool: not a Linux or Android executable"):
        device_info.elf_abi(tmp_path / "tool")


def test_a_64_bit_kernel_below_a_32_bit_system():
    assert device_info._abis({"abis": "", "abi": ""}, "aarch64", "32") == ["armeabi-v7a"]
    assert device_info._abis({"abis": "", "abi": ""}, "aarch64", "64") == ["arm64-v8a"]
    assert device_info._abis({"abis": "arm64-v8a,armeabi-v7a", "abi": ""}, "aarch64", "64") == [
        "arm64-v8a",
        "armeabi-v7a",
    ]


def test_state_of_a_phone():
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
    found = " ".join(device_info.troubles(state, {"kind": "phone", "cores": []}))
    assert "battery is at 15%" in found
    assert "battery saver is on" in found
    assert "thermal status 2" in found


def test_a_device_that_tells_nothing():
    state = device_info.parse_state("low_power=\n")
    assert (state["temperature"], state["thermal_status"], state["low_power"], state["load"]) == (None,) * 4
    assert "does not tell its clock" in " ".join(device_info.troubles(state, {"kind": "phone", "cores": []}))
    assert device_info.troubles(state, {"kind": "board", "cores": []}) == []


def test_what_no_number_can_be_read_of_is_not_told():
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


def test_a_core_that_is_held_back_from_the_start_is_told():
    state = device_info.parse_state(
        f"{CPU}/cpu7/cpufreq/scaling_max_freq=1000000\n{CPU}/cpu0/cpufreq/scaling_max_freq=1800000"
    )
    (told,) = device_info.troubles(state, {"kind": "phone", "cores": FOUR_AND_FOUR["cores"]})
    assert told.startswith("core 7 is held at 1000 of its 1700 MHz")


def test_the_thermal_service_tells_the_temperature_where_the_zones_do_not():
    service = "processor_temp=40.5\nprocessor_temp=44.0\nprocessor_temp=0.0\n"
    assert device_info.parse_state(service)["temperature"] == 44.0
    battery = f"{ZONE}0/type=battery\n{ZONE}0/temp=31000\n"
    assert device_info.parse_state(battery + service)["temperature"] == 44.0
    assert (
        device_info.parse_state(f"{ZONE}1/type=cpu-0\n{ZONE}1/temp=50000\n" + battery + service)["temperature"] == 50.0
    )


def test_the_mean_clock_between_two_states():
    before, after = {"7": {"600000": 100, "2400000": 10}}, {"7": {"600000": 110, "2400000": 40}}
    assert device_info.busy_mhz(before, after, [7]) == 1950
    assert device_info.busy_mhz({}, {}, [7]) is None
    assert device_info.busy_mhz(before, before, [7]) is None

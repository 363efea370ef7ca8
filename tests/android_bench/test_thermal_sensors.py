"""Selection of the thermal zone of the processor, with values from real phones."""

import pytest

from fd_keras.android_bench.device_info import parse_state
from fd_keras.android_bench.thermal_sensors import Thermometer, hottest, processor_sensors

ZONE = "/sys/class/thermal/thermal_zone"


@pytest.mark.parametrize(
    ("zones", "name", "degrees"),
    [
        ([("battery", "31000"), ("soc", "83"), ("cpu-0-0-usr", "42000"), ("cpu-1-0-usr", "44000")], "cpu-1-0-usr", 44),
        ([("battery", "31000"), ("soc", "83"), ("socd", "17")], None, None),
        ([("soc", "83")], None, None),  # without other zones
        ([("soc", "83000"), ("cpu-0", "42000")], "cpu-0", 42),
        ([("soc_thermal", "45000")], "soc_thermal", 45),
        ([("soc-thermal", "45")], "soc-thermal", 45),
        ([("battery", "31000"), ("soc-thermal", "83")], None, None),
        ([("tsens_tz_sensor1", "39"), ("tsens_tz_sensor2", "41")], "tsens_tz_sensor2", 41),
        ([("cpu-0", "42000"), ("cpu-1", "125000"), ("cpu-2", "-274000"), ("cpu-3", "0")], "cpu-0", 42),
        ([("cpu-0", "41000"), ("cpu-1", "43000"), ("cpu-2", "100000")], "cpu-1", 43),  # parked core
        ([("cpu-0", "75000"), ("cpu-1", "95000")], "cpu-1", 95),  # only hot
        ([("cpu-0", "120000")], None, None),
        ([("cpu", "45"), ("battery", "31000")], "cpu", 45),  # both units on one device
        ([("cpu", "7"), ("cpu-0", "42000")], "cpu-0", 42),  # a level, not a temperature
        ([("battery", "31000"), ("gpuss-0-usr", "60000"), ("pm8150_tz", "50000"), ("skin-therm", "33000")], None, None),
        ([("acpitz", "40000"), ("battery", "31000")], "acpitz", 40),
        ([("mtktscpu", "52000"), ("mtktsbattery", "30000")], "mtktscpu", 52),
        ([("cpu", "<unsupported>")], None, None),
        ([("cpu", "nan"), ("cpu2", "inf")], None, None),
    ],
)
def test_the_processors_sensor_is_read_and_named(zones, name, degrees):
    text = "".join(f"{ZONE}{n}/type={kind}\n{ZONE}{n}/temp={value}\n" for n, (kind, value) in enumerate(zones))
    state = parse_state(text)
    assert (state["sensor"], state["temperature"]) == (name, degrees)


def test_zones_of_one_type_keep_their_numbers():
    text = "".join(f"{ZONE}{n}/type=cpu\n{ZONE}{n}/temp={40 + n}000\n" for n in range(2))
    assert parse_state(text)["sensors"] == {"cpu 0": 40.0, "cpu 1": 41.0}


def test_the_thermal_service_is_preferred_to_zones_of_unknown_types():
    assert hottest(processor_sensors({"thermal": ("thermal", "60000")}, ["44.0", "0.0"]))[0] == 44


def test_a_stuck_sensor_is_ignored():
    thermometer = Thermometer()
    read = [thermometer.read({"cpu-0": 40 + number % 3, "cpu-1": 75.0}) for number in range(12)]
    assert read[0] == (75, "cpu-1")
    assert read[-1] == (42, "cpu-0")
    assert thermometer.stuck == ["cpu-1"]


def test_a_stuck_sensor_is_ignored_even_if_it_is_the_only_one():
    thermometer = Thermometer()
    read = [thermometer.read({"cpu": 25.0}) for _ in range(20)]
    assert (read[0], read[-1]) == ((25, "cpu"), (None, None))


def test_a_stuck_sensor_is_reported_and_the_other_one_read(bench, phone, tmp_path, capsys):
    for number, kind in enumerate(("cpu-0", "cpu-1")):
        phone.write(f"{ZONE}{number}/type", f"{kind}\n")
    phone.write(f"{ZONE}0/temp", "75000\n")
    phone.write(f"{ZONE}1/temp", "41000\n")
    phone.at_launch(1, lambda: phone.write(f"{ZONE}1/temp", "43000\n"))
    assert bench("--rounds=3") == 0
    assert "the sensor cpu-0 is stuck at one value" in capsys.readouterr().err
    assert "43 °C (cpu-0, cpu-1)" in (tmp_path / "out/report.html").read_text()

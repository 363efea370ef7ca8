"""Energy from given readings, and from a fake battery on a real adbd."""

import pytest

from fd_keras.android_bench import run
from fd_keras.android_bench.energy import energy_per_inference
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.power_supply import Reading
from fd_keras.android_bench.results import read_rows, read_runs

SUPPLY = "/sys/class/power_supply/battery"


def _readings(microamperes, scale=1.0, volts=4_000_000, status="Discharging", count=20, charger=""):
    """Battery readings that vary by 1% around a current."""
    wobble = [round(microamperes * scale * (1 + 0.01 * (-1) ** n)) for n in range(count)]
    return [Reading("/sys/battery", current, volts, None, status, charger) for current in wobble]


def _energy(idle=-100_000, busy=-600_000, after=None, seconds=0.01, **named):
    after = idle if after is None else after
    windows = (_readings(current, **named) for current in (idle, busy, after))
    return energy_per_inference(*windows, seconds)


def test_idle_power_is_subtracted():
    found = _energy()
    assert found["run_mw"] == pytest.approx(2400)
    assert found["idle_mw"] == pytest.approx(400)
    assert found["mj"] == pytest.approx(20)  # 2 W for 10 ms
    assert 0 < found["pm_mj"] < 0.2
    assert "in µA, negative while discharging" in found["how"]
    assert "20 readings" in found["how"]


@pytest.mark.parametrize(
    ("scale", "volts", "words"),
    [
        (1e-3, 4_000_000, "in mA, negative"),
        (-1, 4_000_000, "in µA, positive"),
        (-1e-3, 4_000, "in mA, positive"),
        (1, 4_000, "in µA, negative"),
    ],
)
def test_all_units_and_signs_give_the_same_energy(scale, volts, words):
    found = _energy(scale=scale, volts=volts)
    assert found["mj"] == pytest.approx(20, rel=0.01)
    assert words in found["how"]


def test_power_reported_by_the_device_is_used():
    windows = ([Reading("/sys/BAT0", None, 12_000_000, watts + n % 2, "Discharging", "") for n in range(20)]
               for watts in (5_000_000, 15_000_000, 5_000_000))  # fmt: skip
    found = energy_per_inference(*windows, 0.001)
    assert found["mj"] == pytest.approx(10)
    assert "power_now" in found["how"]


def test_drifting_idle_power_increases_the_uncertainty():
    assert _energy(after=-140_000)["pm_mj"] > 5 * _energy()["pm_mj"]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"charger": "1"}, "a charger is connected"),
        ({"status": "Charging"}, "not discharging"),
        ({"busy": 600_000}, "changes sign"),
        ({"busy": -100_000}, "cannot be distinguished"),
        ({"busy": -50_000}, "cannot be distinguished"),  # charging, despite the status
        ({"scale": 0}, "stuck or too slow"),
        ({"busy": -80_000_000}, "this gauge's units"),
        ({"count": 1}, "stuck or too slow"),
        ({"volts": 0}, "20 of 20 battery readings .idle. have no value"),
    ],
)
def test_unusable_readings_are_rejected(named, message):
    with pytest.raises(BenchError, match=message):
        _energy(**named)


def test_a_stuck_or_missing_gauge_is_rejected():
    idle, run = _readings(-100_000), _readings(-600_000)
    with pytest.raises(BenchError, match="stuck or too slow .1 different value in 20"):
        energy_per_inference(idle, run[:1] * 20, idle, 0.01)
    gone = [one._replace(current=None) for one in run]
    with pytest.raises(BenchError, match="10 of 20 battery readings .run."):
        energy_per_inference(idle, run[:10] + gone[10:], idle, 0.01)
    energy_per_inference(idle, run[:19] + gone[:1], idle, 0.01)  # a single failed reading is allowed


# Each pause between readings changes the current; while the tool runs, it is that of a busy device.
_PAUSE = """\
echo >> /fake/pauses
[ -f /fake/gone ] && { rm -f SUPPLY/current_now; exit 0; }
[ -f /fake/busy ] && current=$(cat /fake/run) || current=$(cat /fake/idle)
echo $((current + $(wc -l < /fake/pauses) % 3)) > /fake/current
mv /fake/current SUPPLY/current_now
""".replace("SUPPLY", SUPPLY)
# When energy is measured, the tool runs until there are 12 readings, runs a command, and waits for 12 more.
_HOOK = """\
case "$*" in *--min_secs=1.0*)
    start=$(wc -l < /fake/pauses); touch /fake/busy
    until [ $(wc -l < /fake/pauses) -ge $((start + 12)) ]; do /usr/bin/sleep 0.01; done
    {}
    until [ $(wc -l < /fake/pauses) -ge $((start + 24)) ]; do /usr/bin/sleep 0.01; done
    rm /fake/busy ;;
esac
"""


@pytest.fixture
def gauge(phone):
    """A function that adds a battery to the device: current when idle and busy, and a command to run while busy."""

    def make(idle, run, then=":"):
        files = {"type": "Battery", "status": "Discharging", "voltage_now": 4_000_000, "current_now": idle}
        for name, value in files.items():
            phone.write(f"{SUPPLY}/{name}", f"{value}\n")
        phone.write("/sys/class/power_supply/usb/type", "USB\n")
        phone.write("/sys/class/power_supply/usb/online", "0\n")
        phone.fake(pauses="", idle=idle, run=run, us=10_000, hook=_HOOK.format(then))
        phone.write_command("sleep", _PAUSE)

    return make


def _energies(folder):
    return [row.details.energy for row in read_rows(folder) if row.kind == "energy"]


def test_over_adb_rows_have_the_energy_and_the_method(bench, gauge, tmp_path, capsys):
    gauge(idle=-100_000, run=-600_000)
    assert bench("--energy=1s") == 0
    first, second = _energies(tmp_path / "out")
    for energy in (first, second):  # 2 W above idle for 10 ms; a reading may fall between two states
        assert energy["mj"] == pytest.approx(20, rel=0.2)
        assert f"current and voltage of {SUPPLY}, in µA, negative while discharging" in energy["how"]
    assert "±" in capsys.readouterr().out
    for suffix in ("html", "md", "csv"):
        text = (tmp_path / f"out/report.{suffix}").read_text()
        assert "while discharging" in text
        assert ("energy_mj" if suffix == "csv" else "mJ") in text


def test_over_adb_a_sustained_run_reads_positive_milliamperes(flags, gauge, tmp_path, capsys):
    gauge(idle=100, run=600)
    flags = [flag for flag in flags if not flag.startswith(("--rounds", "--runs", "--warmup"))]
    assert run.main([*flags, "--sustained=0.1s", "--energy=1s"]) == 0
    first, second = _energies(tmp_path / "out")
    for energy in (first, second):
        assert energy["mj"] == pytest.approx(20, rel=0.2)
        assert "in mA, positive while discharging" in energy["how"]
    assert "mJ" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    ("then", "message"),
    [
        ("touch /fake/gone", "the device does not report its battery current"),
        ("echo 1 > /sys/class/power_supply/usb/online", "a charger is connected"),
        ("echo -5 > /fake/run", "cannot be distinguished"),
    ],
)
def test_over_adb_a_failure_during_the_run_gives_no_energy(bench, gauge, tmp_path, capsys, then, message):
    gauge(idle=-100_000, run=-100_000 if "run" in then else -600_000, then=then)
    assert bench("--energy=1s", "--repeats=0") == 1
    assert message in capsys.readouterr().err
    assert not _energies(tmp_path / "out")
    assert len(read_rows(tmp_path / "out")) == 2  # latencies
    (known,) = read_runs(tmp_path / "out").values()
    assert message in " ".join(known["failures"])


def test_over_adb_a_charging_device_is_rejected_before_any_launch(bench, gauge, phone, capsys):
    gauge(idle=-100_000, run=-600_000)
    phone.write("/sys/class/power_supply/usb/online", "1\n")
    assert bench("--energy") == 2
    assert "a charger is connected" in capsys.readouterr().err
    assert not phone.calls()


def test_energy_on_this_machine_needs_the_benchmark_tool(converted, tmp_path, capsys):
    assert run.main(["--target=host", f"--models={converted}", f"--output_dir={tmp_path}", "--energy"]) == 2
    assert "--energy: --target=host needs --benchmark_binary" in capsys.readouterr().err

import pytest

from fd_keras.android_bench.anomalies import AnomalyDetector
from fd_keras.android_bench.results import read_rows

CPU = "/sys/devices/system/cpu"


def _row(make_row, ms, before=None, after=None, std=0.0, **other):
    calm = {"max_mhz": {"0": 1800.0, "7": 2400.0}, "thermal_status": 0}
    states = {"before": calm | (before or {}), "after": calm | (after or {})}
    return make_row("a", [ms * 1e6], std_ns=std * 1e6, **states, **other)


@pytest.fixture
def detector():
    return AnomalyDetector({"0": 1800.0, "7": 2400.0}, repeats=1)


def test_a_normal_launch_has_no_flags(make_row, detector):
    assert detector.flags(_row(make_row, 1, std=0.4), [7]) == []


@pytest.mark.parametrize(("cores", "flags"), [([7], ["clock capped at 1000 of 2400 MHz"]), ([0], [])])
def test_a_capped_clock_is_flagged_only_on_used_cores(make_row, detector, cores, flags):
    capped = {"max_mhz": {"0": 1800.0, "7": 1000.0}}
    assert detector.flags(_row(make_row, 1, after=capped), cores) == flags
    assert detector.flags(_row(make_row, 1, before=capped, after=capped), cores) == flags
    assert detector.flags(_row(make_row, 1, before=capped), []) == ["clock capped at 1000 of 2400 MHz"]
    assert detector.flags(_row(make_row, 1, after={"max_mhz": {"7": 2390.0}}), [7]) == []  # rounded


def test_heat_and_an_unsteady_time_are_flagged(make_row, detector):
    row = _row(make_row, 2, after={"thermal_status": 3}, std=1.5)
    assert detector.flags(row, []) == [
        "throttled by heat (thermal status 3)",
        "unsteady: standard deviation 75% of the mean",
    ]


def test_a_drift_is_flagged_after_three_launches(make_row, detector):
    for ms in (10, 11, 10):
        assert detector.flags(_row(make_row, 20), []) == []
        detector.add(_row(make_row, ms))
    assert detector.flags(_row(make_row, 10.9), []) == []
    assert detector.flags(_row(make_row, 12), []) == ["drifted +20% from its median so far"]
    assert detector.flags(_row(make_row, 8), []) == ["drifted -20% from its median so far"]
    assert detector.flags(_row(make_row, 12, threads=2), []) == []  # another configuration


def test_drift_is_relative_to_reliable_launches_and_last_attempts(make_row, detector):
    for _ in range(3):
        detector.add(_row(make_row, 10))
    for _ in range(9):
        detector.add(_row(make_row, 20, flags=["hot"]))
        detector.add(_row(make_row, 20, kind="profile"))
    assert detector.flags(_row(make_row, 10), []) == []
    for _ in range(9):
        detector.add(_row(make_row, 20, flags=["hot"], attempt=2))
    assert detector.flags(_row(make_row, 20), []) == []


def test_a_launch_with_a_capped_clock_is_flagged_and_repeated(bench, phone, tmp_path, capsys):
    phone.set_cores()
    phone.at_launch(2, lambda: phone.write(f"{CPU}/cpu1/cpufreq/scaling_max_freq", "1000000\n"))
    assert bench("--repeats=1", "--rounds=2") == 0
    rows = read_rows(tmp_path / "out")
    assert [(row.attempt, len(row.flags)) for row in rows] == [(1, 0), (1, 1), (2, 1), (1, 1), (2, 1), (1, 1), (2, 1)]
    assert {flag for row in rows for flag in row.flags} == {"clock capped at 1000 of 2400 MHz"}
    assert "rounds: clock capped" in capsys.readouterr().err
    assert "| 1.000* |" in (tmp_path / "out/report.md").read_text()


THERMALSERVICE = """\
IsStatusOverride: false
Thermal Status: {status}
Cached temperatures:
\tTemperature{{mValue=99.0, mType=0, mName=CPU0, mStatus=0}}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{{mValue=41.5, mType=0, mName=CPU0, mStatus=0}}
\tTemperature{{mValue=55.0, mType=3, mName=skin, mStatus=0}}
"""


def test_a_thermal_status_is_flagged(bench, phone, tmp_path, capsys):
    script = f"[ $1 = thermalservice ] && cat <<'end'\n{THERMALSERVICE.format(status=2)}end\n"
    phone.write_command("dumpsys", script)
    assert bench("--repeats=1") == 0
    rows = read_rows(tmp_path / "out")
    assert {(row.attempt, *row.flags) for row in rows} == {(n, "throttled by heat (thermal status 2)") for n in (1, 2)}
    assert {row.conditions.before["temperature"] for row in rows} == {41.5}
    assert "the phone is throttled by heat (thermal status 2); let it cool down" in capsys.readouterr().err


def test_a_launch_that_drifts_is_repeated(bench, phone, tmp_path):
    phone.at_launch(8, lambda: phone.fake(us=2000))
    phone.at_launch(10, lambda: phone.fake(us=1000))
    assert bench("--rounds=5") == 0
    rows = read_rows(tmp_path / "out")
    disturbed = [row for row in rows if row.latency.median_ns != 1e6]
    assert [row.attempt for row in disturbed] == [1, 2]
    assert all("drifted +100%" in row.flags[0] for row in disturbed)
    last = {row.key: row for row in rows}
    assert len(last) == 10
    assert {row.latency.median_ns for row in last.values()} == {1e6}

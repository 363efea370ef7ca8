"""Sustained runs on this machine and on a real adbd, with pauses, unplugged devices and killed hosts."""

import argparse
import json
import math
import signal
import subprocess
import sys
import threading

import pytest

from fd_keras.android_bench import adb, run, sustained
from fd_keras.android_bench.plan import BenchPlan, Job
from fd_keras.android_bench.results import read_rows, read_runs
from fd_keras.android_bench.rows import Row
from fd_keras.android_bench.sustained import SustainedPlan, missing_heat, parse_duration, summarize_sustained

CPU = "/sys/devices/system/cpu"
ZONE = "/sys/class/thermal/thermal_zone0"
SLICES = 10
HOUR = 3600


@pytest.fixture
def bench_sustained(flags):
    """A function that runs the program on the device for a second; returns its exit status."""
    return lambda *others: run.main([*_sustained_flags(flags), *others])


def _sustained_flags(flags):
    decided = ("--rounds", "--runs", "--warmup")
    return [*(flag for flag in flags if not flag.startswith(decided)), "--sustained=1s"]


def _counted(rows):
    return [row.key for row in rows if not row.flags]


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("90", 90), ("90s", 90), ("1.5h", 5400)])
def test_durations_are_parsed(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0m", "-1m", "30 minutes", "1e3", "999999999h", "nan"])
def test_invalid_durations_are_rejected(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected something like 30m"):
        parse_duration(text)


def test_models_run_one_after_another(make_row):
    models = tuple(make_row(name, [1]).launch.job.model for name in ("a", "b"))
    plan = SustainedPlan.of(BenchPlan(models, extras=("memory",)), 1800)
    launches = list(plan.schedule())
    assert (plan.rounds, plan.min_secs) == (180, 10)
    assert [launch.job.model.name for launch in launches[:-2]] == ["a"] * 180 + ["b"] * 180
    assert [launch.kind for launch in launches[-3:]] == ["sustained", "memory", "memory"]
    assert launches[0].job == Job(models[0])
    assert SustainedPlan.of(BenchPlan(models), 60).identity() != BenchPlan(models, rounds=10, min_secs=6).identity()


@pytest.mark.parametrize(
    ("spans", "missing"),
    [
        ([(0, 10)], 0),
        ([(0, 10), (12, 22)], 0),  # a device hardly cools in two seconds
        ([(0, 600), (700, 710)], 100),
        ([(0, 600), (700, 710), (710, 720)], 90),
        ([(0, 600), (700, 800), (800, 810)], 0),
        ([(0, 600), (9000, 9010)], 600),  # cold, as at the start
        ([(0, 600), (700, 690), (690, 700)], 100),  # the clock was set back
    ],
)
def test_missing_heat_is_the_length_of_pauses_minus_the_time_since(spans, missing):
    assert missing_heat(spans) == missing


def _series(make_row, label, times, began=0.0, secs=60.0, **state):
    for number, ms in enumerate(times):
        start = began + number * secs
        yield make_row(
            label, [ms * 1e6], round=number + 1, kind="sustained", span_s=[start, start + secs],
            after={name: value(number) for name, value in state.items()},
        )  # fmt: skip


def test_the_summary_has_the_first_minute_the_last_ten_and_ratios(make_row):
    rows = [
        *_series(make_row, "steady", [5] * 30),
        *_series(make_row, "hot", [4] + [5] * 19 + [8] * 10, busy_mhz=lambda n: 2400 - 40 * n,
                 temperature=lambda n: 30 + n, battery=lambda n: {"percent": 90 - n // 3}),
    ]  # fmt: skip
    hot, steady = summarize_sustained(rows, "steady_")  # not the name of a model
    assert hot["ratio_first"] is None
    hot, steady = summarize_sustained(rows, steady["label"])
    assert (hot["first"]["ms"], hot["last"]["ms"], hot["slowdown"]) == (4, 8, 2)
    assert (hot["ratio_first"], hot["ratio_last"]) == (0.8, 1.6)
    assert (hot["first"]["secs"], hot["last"]["secs"], hot["minutes"]) == (60, 600, 30)
    assert (hot["first"]["temperature"], hot["last"]["temperature"]) == (30, 54.5)
    assert hot["last"]["mhz"] < hot["first"]["mhz"]
    assert hot["last"]["battery"] < hot["first"]["battery"]
    assert (steady["slowdown"], steady["last"]["temperature"], steady["pauses"]) == (1, None, 0)
    assert [point["secs"] for point in hot["points"]][-1] == 1800


def test_pauses_are_not_part_of_the_time_axis(make_row):
    rows = [*_series(make_row, "a", [5] * 2), *_series(make_row, "a", [6] * 2, began=HOUR)]
    (line,) = summarize_sustained(rows)
    assert (line["minutes"], line["pauses"]) == (4, 1)
    assert [point["after_pause"] for point in line["points"]] == [False, False, True, False]


def test_a_row_without_its_start_and_end_is_damaged(make_row):
    row = json.loads(json.dumps(next(_series(make_row, "a", [5])).to_json()))
    assert Row.from_json(row).conditions.span_s == [0, 60]
    for wrong in ({}, {"span_s": []}, {"span_s": [1]}, {"span_s": ["a", 2]}):
        with pytest.raises(ValueError, match="span_s"):
            Row.from_json({name: value for name, value in row.items() if name != "span_s"} | wrong)


def test_a_sustained_run_on_this_machine(converted, tmp_path, capsys):
    flags = ["--target=host", f"--models={converted}", f"--output_dir={tmp_path}", "--sustained=0.1s", "--op_profile"]
    assert run.main(flags) == 0
    rows = read_rows(tmp_path)
    assert len(_counted(row for row in rows if row.kind == "sustained")) == 2 * SLICES
    assert not any(row.latency.samples_ns for row in rows if row.kind == "sustained")
    out = capsys.readouterr().out
    assert "last/first" in out
    assert "medians of launches" in out
    for suffix in ("html", "md", "csv"):
        assert "mobilenet_0.5" in (tmp_path / f"report.{suffix}").read_text()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--rounds=3", "--rounds: --sustained sets"),
        ("--target=emulator", "--sustained: --target=emulator counts"),
    ],
)
def test_incompatible_flags_are_rejected(flag, message, tmp_path, capsys):
    assert run.main(["--target=host", "--models=.", f"--output_dir={tmp_path}", "--sustained=30m", flag]) == 2
    assert message in capsys.readouterr().err


def test_clock_temperature_and_battery_are_reported_with_the_latency(bench_sustained, phone, tmp_path, monkeypatch):
    monkeypatch.setattr(sustained, "_MAX_PAUSE", math.inf)  # no pauses, even on a busy machine
    phone.set_cores()
    phone.write(f"{ZONE}/type", "cpu-1-0-usr\n")
    phone.write(f"{ZONE}/temp", "41500\n")
    phone.write_command("dumpsys", '[ $1 = battery ] && printf "  level: 80\\n  status: 3\\n  temperature: 311\\n"')
    residency = f"{CPU}/cpu1/cpufreq/stats/time_in_state"
    phone.write(residency, "600000 100\n2400000 10\n")

    def throttle():
        phone.write(f"{ZONE}/temp", "61500\n")
        phone.write(residency, "600000 140\n2400000 10\n")
        phone.fake(us=4000)

    phone.at_launch(6, throttle)
    assert bench_sustained() == 0
    rows = read_rows(tmp_path / "out")
    assert len(_counted(rows)) == len(rows) == 2 * SLICES
    assert {len(call[1].split()) for call in phone.calls()} == {7}
    (line, _) = summarize_sustained(rows)
    assert [point["ms"] for point in line["points"]] == [1] * 5 + [4] * 5
    assert {point["temperature"] for point in line["points"]} == {41.5, 61.5}
    assert line["points"][5]["mhz"] == 600
    assert line["last"]["battery"] == 80
    page = (tmp_path / "out/report.html").read_text()
    for words in ("<svg", "MHz</text>", "°C</text>", "battery %</text>", "4.00</td>"):
        assert words in page


def test_a_killed_host_and_an_unplugged_device_lose_no_row(flags, phone, tmp_path, monkeypatch, capsys):
    out, command = tmp_path / "out", [sys.executable, "-m", "android_bench.run", *_sustained_flags(flags)]
    processes = []
    phone.at_launch(4, lambda: processes[0].send_signal(signal.SIGKILL))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        processes.append(process)
    kept = read_rows(out)
    assert len(kept) == 3

    reconnect, pulled = adb.AdbShell.reconnect, threading.Event()

    def plug_in(shell, *others):
        pulled.wait()
        phone.switch_on()
        reconnect(shell, *others)

    monkeypatch.setattr(adb.AdbShell, "reconnect", plug_in)
    phone.at_launch(9, lambda: (phone.switch_off(), pulled.set()))
    assert run.main(_sustained_flags(flags)) == 0
    assert pulled.is_set()
    rows = read_rows(out)
    assert rows[:3] == kept
    assert len(_counted(rows)) == len(set(_counted(rows))) == 2 * SLICES
    assert [run_["state"] for run_ in read_runs(out).values()] == ["complete"]
    assert "connection broke" in capsys.readouterr().err


def test_after_a_long_pause_the_device_is_warmed_up_again(bench_sustained, phone, tmp_path, capsys):
    phone.at_launch(6, phone.switch_off)
    assert bench_sustained("--patience=0") == 1
    phone.reset()
    path = tmp_path / "out/rows.jsonl"
    earlier = [json.loads(line) for line in path.read_text().splitlines()]
    for row in earlier:  # as if the host was off for an hour
        row["span_s"] = [seconds - HOUR for seconds in row["span_s"]]
    path.write_text("".join(json.dumps(row) + "\n" for row in earlier))
    assert bench_sustained() == 0
    rows = read_rows(tmp_path / "out")
    again = [row for row in rows if row.flags]
    assert again
    assert {row.key for row in again} == {rows[5].key}
    assert [row.attempt for row in again] == list(range(1, len(again) + 1))
    assert "warming up again" in again[0].flags[0]
    assert len(_counted(rows)) == len(set(_counted(rows))) == 2 * SLICES
    assert "after a pause" in (tmp_path / "out/report.html").read_text()


def test_a_model_that_fails_repeatedly_is_skipped(bench_sustained, phone, tmp_path, capsys):
    phone.fake(signal=9)
    assert bench_sustained("--repeats=1") == 1
    assert len(phone.calls()) == 4
    assert "gave up" in capsys.readouterr().err

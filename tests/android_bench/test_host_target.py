import itertools
import json
import re
import shutil
import sys
from types import SimpleNamespace

import pytest

from fd_keras.android_bench import host_info, host_target
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.host_target import HostTarget, time_models
from fd_keras.android_bench.models import find_models, read_models
from fd_keras.android_bench.plan import BenchPlan

QUICK = {"rounds": 3, "runs": 4, "min_secs": 0, "warmup": 1}


def _plan(folder, **options):
    return BenchPlan(tuple(read_models(find_models(folder))[0]), **{**QUICK, **options})


def test_time_models_returns_a_summary_per_model_and_threads(converted):
    rows = []
    summary = time_models(converted, threads=(1, 2), on_row=rows.append, **QUICK)
    assert [(line["model"], line["recipe"], line["threads"]) for line in summary] == [
        ("fd_mobilenet_0.25", "float32", 1),
        ("fd_mobilenet_0.25", "float32", 2),
        ("mobilenet_0.5", "int8", 1),
        ("mobilenet_0.5", "int8", 2),
    ]
    for line in summary:
        assert (line["rounds"], line["runs"], line["target"]) == (3, 12, "host")
        assert 0 < line["min_ms"] <= line["median_ms"] <= line["p95_ms"] <= line["max_ms"]
        assert line["min_ms"] <= line["mean_ms"] <= line["max_ms"]
        assert line["std_ms"] <= line["max_ms"] - line["min_ms"]
        assert line["size_bytes"] == len((converted / f"{line['label']}.tflite").read_bytes())
    assert [line["ratio"] for line in summary[:2]] == [1, 1]
    assert summary[0]["macs"] == 42
    assert "other" not in summary[0]
    assert len(rows) == 12


def test_rows_are_interleaved_and_keep_every_sample(converted):
    plan = _plan(converted, rounds=5)
    rows = list(HostTarget(plan).measure())
    assert [(row.launch.round, row.launch.place, row.label) for row in rows] == [
        (launch.round, launch.place, launch.job.model.label) for launch in plan.schedule()
    ]
    assert all(len(row.latency.samples_ns) == row.latency.runs == 4 and row.latency.median_ns > 0 for row in rows)
    assert len({row.run for row in rows}) == 1
    json.dumps([row.to_json() for row in rows], allow_nan=False)


def test_min_secs_increases_the_number_of_runs(converted, monkeypatch):
    target = HostTarget(_plan(converted / "mobilenet_0.5_int8.tflite", rounds=1, min_secs=0.02))
    ticks = itertools.count(0, 1_000_000)  # each invocation takes a millisecond
    monkeypatch.setattr(host_target.time, "perf_counter_ns", lambda: next(ticks))
    (row,) = target.measure()
    assert list(row.latency.samples_ns) == [1_000_000] * 20


def test_a_single_path_and_number_of_threads_are_accepted(converted):
    (line,) = time_models(converted / "mobilenet_0.5_int8.tflite", threads=1, **{**QUICK, "rounds": 1})
    assert (line["ratio"], line["spread_pct"]) == (1, None)


def test_models_that_do_not_fit_in_memory_together_are_loaded_one_at_a_time(converted, monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:       1 kB\n")
    monkeypatch.setattr(host_info, "_MEMINFO", tmp_path / "meminfo")
    loads = []
    load = host_target.load
    monkeypatch.setattr(host_target, "load", lambda job: loads.append(job) or load(job))
    target = HostTarget(_plan(converted))
    assert len(list(target.measure())) == 6
    assert len(loads) == 2 + 6
    assert any("do not all fit in memory" in warning for warning in target.warnings)


def test_more_threads_than_cores_and_a_busy_machine_are_reported(converted, monkeypatch):
    monkeypatch.setattr(host_info.os, "getloadavg", lambda: (99.0, 0, 0), raising=False)
    monkeypatch.setattr(host_info, "count_cores", lambda: 1)
    warnings = " ".join(HostTarget(_plan(converted, threads=(2,))).warnings)
    assert "2 threads on 1 cores" in warnings
    assert "load average 99.0" in warnings


@pytest.mark.parametrize(("threads", "flags"), [(1, ["other processes used the core for 100% of the time"]), (2, [])])
def test_a_thread_that_waits_for_its_core_is_flagged(converted, monkeypatch, threads, flags):
    monkeypatch.setattr(host_target.time, "thread_time_ns", lambda: 0)
    rows = list(HostTarget(_plan(converted, threads=(threads,))).measure())
    assert [row.flags for row in rows] == [flags] * 6


def test_a_stopped_launch_is_repeated_in_the_next_run(converted):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 10  # stops during the second launch

    target = HostTarget(_plan(converted))
    (first,) = target.measure(stop)
    rest = list(target.measure(done=[first]))
    assert {row.latency.runs for row in [first, *rest]} == {4}
    assert [row.key for row in [first, *rest]] == [launch.key for launch in target.plan.schedule()]


@pytest.mark.parametrize("calls", range(6))
def test_a_stop_during_the_first_launch_gives_no_row(converted, calls):
    asked = itertools.count()
    rows = list(HostTarget(_plan(converted)).measure(lambda: next(asked) >= calls))
    assert rows == []


@pytest.mark.parametrize("options", [{"cores": ("big",)}, {"delegates": ("gpu",)}])
def test_options_that_need_the_benchmark_tool_are_rejected(converted, options):
    with pytest.raises(BenchError, match="without --benchmark_binary does not support"):
        HostTarget(_plan(converted, **options))


def test_profile_and_memory_come_after_the_rounds(converted, tmp_path):
    shutil.copy(converted / "large.bin", tmp_path / "large.tflite")
    plan = _plan(tmp_path, rounds=1, runs=3, extras=("profile", "memory"))
    timed, profile, memory = HostTarget(plan).measure()
    assert [row.kind for row in (timed, profile, memory)] == ["time", "profile", "memory"]
    assert re.findall("Convolution|Mean", " ".join(kind for kind, *_ in profile.details.ops)) == ["Convolution", "Mean"]
    # The activations, 80 x 80 x 4 floats, are 0.1 MB.
    assert 0.1 < memory.details.memory_mb["peak"] < 200
    assert memory.details.memory_mb["overall"] <= memory.details.memory_mb["peak"]
    assert {row.latency.runs for row in (timed, profile, memory)} == {3}


def test_an_extra_launch_that_crashes_is_reported_and_the_others_continue(models, capsys):
    plan = _plan(models, rounds=1, extras=("profile", "memory"))
    target, (first, _) = HostTarget(plan), find_models(models)
    first.unlink()
    rows = list(target.measure())
    assert [row.kind for row in rows] == ["time", "time", "profile", "memory"]
    assert len(target.failures) == 2
    assert all(str(first) in failure for failure in target.failures)
    assert "the profile failed with status" in capsys.readouterr().err


@pytest.mark.parametrize("keep_bytes", [20, 400, -1])
def test_a_truncated_model_is_named(models, keep_bytes):
    path = models / "fd_mobilenet_0.25_float32.tflite"
    path.write_bytes(path.read_bytes()[:keep_bytes])
    target = HostTarget(_plan(models))
    assert [model.name for model in target.plan.models] == ["mobilenet_0.5"]
    (failure,) = target.failures
    assert str(path) in failure
    assert "LiteRT cannot run it" in failure
    assert "again" in failure
    with pytest.raises(BenchError, match="LiteRT cannot run it"):
        time_models(models, **QUICK)


def test_time_models_rejects_files_that_are_not_models(models):
    (models / "page.tflite").write_text("<html>")
    with pytest.raises(BenchError, match=r"page\.tflite: a web page, not a TFLite model"):
        time_models(models, **QUICK)


def test_an_input_without_a_fixed_size_is_rejected(converted, tmp_path):
    path = tmp_path / "free.tflite"
    path.write_bytes((converted / "dynamic.bin").read_bytes())
    with pytest.raises(BenchError, match=r"free\.tflite: input shape \[1, -1, -1, 3\] is not fixed"):
        time_models(path, **QUICK)


def test_a_model_that_fails_later_is_named(converted):
    target = HostTarget(_plan(converted, rounds=1))

    def fail():
        raise RuntimeError("Node number 3\n failed.")

    target._loaded = {job: SimpleNamespace(invoke=fail) for job in target.plan.jobs}
    with pytest.raises(BenchError, match=r"\.tflite: LiteRT cannot run it: Node number 3 failed"):
        list(target.measure())


def test_without_litert_the_package_is_named(converted, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.delitem(sys.modules, "ai_edge_litert.interpreter", raising=False)
    with pytest.raises(BenchError, match="pip install ai-edge-litert"):
        HostTarget(_plan(converted))

"""Launches of the benchmark tool on a real adbd; see `conftest.Phone`."""

import subprocess

import pytest

from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.launcher import LaunchOutput, ToolFlags, check_output
from fd_keras.android_bench.models import ModelFile
from fd_keras.android_bench.plan import Job
from fd_keras.android_bench.results import read_rows


def test_a_hanging_tool_is_killed(bench, phone, monkeypatch, wait_until, capsys):
    communicate, launches = subprocess.Popen.communicate, []

    def time_out(process, *others, timeout=None, **named):
        if "--num_threads=" not in process.args[-1]:
            return communicate(process, *others, timeout=timeout, **named)
        launches.append(timeout)
        wait_until(lambda: len(phone.calls()) == len(launches))
        raise subprocess.TimeoutExpired("adb", timeout)

    phone.hang(1, 2)
    monkeypatch.setattr(subprocess.Popen, "communicate", time_out)
    assert bench("--timeout=7", "--repeats=0") == 1
    assert launches == [7, 7]
    assert "no answer within 7 s" in capsys.readouterr().err
    assert not phone.adb_shell("pgrep -f '[-]-graph='").stdout


def test_a_missing_profile_is_an_error(bench, phone, fixture_text, tmp_path, capsys):
    phone.fake(output=fixture_text("bm_214_x86_f32.txt"))
    assert bench("--op_profile", "--repeats=0") == 1
    assert "did not print the requested profile" in capsys.readouterr().err
    assert {row.kind for row in read_rows(tmp_path / "out")} == {"time"}


def test_delegates_and_threads_become_flags_of_the_tool(bench, phone, tmp_path):
    assert bench("--delegates=xnnpack,none,gpu", "--threads=1,2") == 0
    asked = [arguments for _, arguments in phone.calls()]
    for flag in ("use_xnnpack=true", "use_xnnpack=false", "use_gpu=true", "num_threads=2"):
        assert any(f"--{flag}" in arguments for arguments in asked), flag
    assert len(read_rows(tmp_path / "out")) == 12


def test_a_delegate_that_is_missing_or_fails_is_an_error(bench, phone, capsys):
    assert bench("--delegates=nnapi") == 2
    assert "has no --use_nnapi; try --fetch_binary=classic" in capsys.readouterr().err
    phone.fake(gpu_refuses=1)
    assert bench("--delegates=gpu", "--repeats=0") == 1
    assert "takes no ops of this model" in capsys.readouterr().err


def test_the_litert_tool_gets_its_own_flags(bench, phone):
    phone.fake(help="\n".join(f"\t--{name}=0" for name in ("graph", "num_threads", "use_cpu", "use_profiler")))
    assert bench("--op_profile") == 0
    asked = [arguments for _, arguments in phone.calls()]
    assert all("--use_cpu=true" in arguments and "xnnpack" not in arguments for arguments in asked)
    assert sum("--use_profiler=true" in arguments for arguments in asked) == 2


def test_a_delegate_has_the_flags_of_the_build():
    classic = ToolFlags(frozenset(["use_xnnpack", "use_gpu", "use_nnapi", "enable_op_profiling"]))
    assert classic.of_delegate("none") == {"use_xnnpack": "false"}
    assert classic.of_kind("profile") == {"enable_op_profiling": "true"}
    litert = ToolFlags(frozenset(["use_cpu", "use_gpu", "use_profiler"]))
    assert litert.of_delegate("xnnpack") == {"use_cpu": "true"}
    assert litert.of_kind("profile") == {"use_profiler": "true"}
    with pytest.raises(BenchError, match="--delegates=none: .* has no --use_xnnpack; try --fetch_binary=classic"):
        litert.check(["xnnpack", "none"], [])
    with pytest.raises(BenchError, match="has no --report_peak_memory_footprint"):
        litert.check([], ["profile", "memory"])


def test_a_build_without_xnnpack_is_recognized():
    old = ToolFlags(frozenset(["graph", "num_runs", "min_secs", "use_nnapi"]))
    assert old.of_delegate("none") == {}
    with pytest.raises(BenchError, match="--delegates=xnnpack: .* has no --use_xnnpack; try --fetch_binary"):
        old.check(["xnnpack"], [])
    assert old.drop_unknown({"min_secs": 1, "max_secs": 9}) == {"min_secs": 1}


def test_a_build_that_lists_no_flags_is_assumed_to_have_all():
    unknown = ToolFlags(frozenset())
    assert unknown.of_delegate("nnapi") == {"use_nnapi": "true"}
    assert unknown.of_kind("memory") == {"report_peak_memory_footprint": "true"}
    assert unknown.of_kind("time") == {}


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (137, "killed by signal 9 .out of memory, or killed by another process"),
        (139, "killed by signal 11$"),
        (1, "failed with status 1: broken"),
        (0, "not the complete output"),
    ],
)
def test_the_reason_of_a_failed_launch_is_reported(status, message):
    job = Job(ModelFile("a.tflite", "a", "", 1, "0"))
    with pytest.raises(BenchError, match=message):
        check_output(LaunchOutput("tool", status, "broken", {}, {}), job, "time")

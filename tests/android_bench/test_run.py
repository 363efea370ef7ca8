import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import android_bench
from fd_keras.android_bench import fetch, run
from fd_keras.android_bench.plan import BenchPlan
from fd_keras.android_bench.results import Results, read_rows, read_runs
from tests import needs

FOLDER = Path(android_bench.__file__).parent


QUICK = ["--rounds=3", "--runs=4", "--min_secs=0", "--warmup=1"]


PROGRAM = [sys.executable, "-m", "android_bench.run"]


def _main(models, out, *flags):
    return run.main(["--target=host", f"--models={models}", f"--output_dir={out}", *QUICK, *flags])


def _rows(out):
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


def _runs(out):
    return list(read_runs(out).values())


def test_a_run_prints_a_table_and_writes_rows_and_summary(converted, tmp_path, capsys):
    out = tmp_path / "results"
    assert _main(converted, out, "--threads=1,2") == 0
    text = capsys.readouterr().out
    assert [line.split()[:3] for line in text.splitlines()[:5]] == [
        ["model", "recipe", "threads"],
        ["fd_mobilenet_0.25", "float32", "1"],
        ["fd_mobilenet_0.25", "float32", "2"],
        ["mobilenet_0.5", "int8", "1"],
        ["mobilenet_0.5", "int8", "2"],
    ]
    assert all(len(line) <= 100 for line in text.splitlines()[:-2])
    assert re.fullmatch(rf"next: .+\breport {re.escape(str(out))}", text.splitlines()[-1])
    assert "time of fd_mobilenet_0.25_float32" in text
    rows, (known,) = _rows(out), _runs(out)
    assert len(rows) == 12
    assert {row["target"] for row in rows} == {"host"}
    assert {row["run"] for row in rows} == {known["run"]}
    assert known["state"] == "complete"
    assert known["failures"] == []
    assert known["options"].items() >= {"threads": [1, 2], "rounds": 3, "runs": 4, "warmup": 1}.items()
    for name in ("report.html", "report.md", "report.csv"):
        assert "mobilenet_0.5" in (out / name).read_text()


def test_broken_models_are_reported_and_the_others_timed(models, tmp_path, capsys):
    shutil.copy(models / "mobilenet_0.5_int8.tflite", models / "lost_int8.tflite")
    (models / "lost_int8.json").write_text("{")
    (models / "page_int8.tflite").write_text("<html>")
    (models / "cut_int8.tflite").write_bytes((models / "mobilenet_0.5_int8.tflite").read_bytes()[:300])
    assert _main(models, tmp_path / "out") == 1
    captured = capsys.readouterr()
    told = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert [Path(line.split(": ")[1]).name for line in told] == [
        "lost_int8.json", "page_int8.tflite", "cut_int8.tflite"
    ]  # fmt: skip
    assert len(_rows(tmp_path / "out")) == 6
    assert len(_runs(tmp_path / "out")[0]["failures"]) == 3
    assert "fd_mobilenet_0.25" in captured.out


def test_if_all_models_are_broken_the_run_fails(tmp_path, capsys):
    (tmp_path / "a.tflite").write_bytes(b"")
    assert _main(tmp_path, tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert "a.tflite: the file is empty" in err
    assert "no models left" in err


@pytest.mark.parametrize(
    ("models", "flags", "message"),
    [
        ("nowhere", [], "nowhere: no such file or folder"),
        (".", [], ": no .tflite file in this folder"),
        (None, ["--threads=0"], "threads must be"),
        (None, ["--threads=two"], "threads must be integers"),
        (None, ["--rounds=0"], "rounds must be"),
        (None, ["--baseline=other"], "baseline other: no such model"),
        (None, ["--output_dir={here}/file/out"], "file/out: cannot be written"),
    ],
)
def test_a_failed_start_is_reported_in_one_line(converted, tmp_path, capsys, models, flags, message):
    (tmp_path / "file").write_text("")
    flags = [flag.format(here=tmp_path) for flag in flags]
    assert _main(tmp_path / models if models else converted, tmp_path / "out", *flags) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]


def test_a_missing_benchmark_binary_is_reported_with_the_flag_that_downloads_it(converted, capsys):
    assert run.main([f"--models={converted}"]) == 2
    assert "use --fetch_binary to download" in capsys.readouterr().err


def test_without_adb_the_package_is_named(converted, tmp_path, capsys):
    flags = [f"--models={converted}", f"--output_dir={tmp_path}", "--benchmark_binary=/bin/true"]
    for extra in ([], ["--serial=1.2.3.4:5555"]):
        assert run.main([*flags, *extra, "--adb=no_such_adb"]) == 2
        assert "no_such_adb: adb is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--cooldown=20", "--max_temp=40", "--timeout=1", "--serial=pi", "--libraries=/tmp"])
def test_flags_without_effect_on_this_machine_are_errors(converted, tmp_path, capsys, flag):
    assert _main(converted, tmp_path, flag) == 2
    assert f"{flag.partition('=')[0]}: --target=host without --benchmark_binary" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--round=3", "--verbose", "--target=usb", "--rounds=x", "more"])
def test_unknown_flags_are_errors(flag, capsys):
    with pytest.raises(SystemExit) as caught:
        run.main(["--target=host", "--models=.", flag])
    assert caught.value.code == 2
    assert flag.split("=")[-1] in capsys.readouterr().err


def test_help_names_every_flag_and_default(capsys):
    with pytest.raises(SystemExit) as caught:
        run.main(["--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert "exit status" in text
    assert max(map(len, text.splitlines())) <= 100
    for flag in [
        "target",
        "models",
        "threads",
        "rounds",
        "runs",
        "min_secs",
        "warmup",
        "seed",
        "baseline",
        "output_dir",
        "core",
        "serial",
    ]:
        assert f"--{flag} " in text
    assert f"(default: {BenchPlan.rounds})" in text


@needs.posix_signals
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_and_summarizes_what_was_measured(converted, tmp_path, wait_until, number, status):
    flags = ["--target=host", f"--models={converted}", f"--output_dir={tmp_path}", "--rounds=5000"]
    command = [*PROGRAM, *flags, "--min_secs=0.05"]
    # Background jobs of a shell ignore Ctrl-C, and so would the program if the tests run as one.
    listen = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=FOLDER.parent, **pipes, **listen) as process:
        rows = tmp_path / "rows.jsonl"
        wait_until(lambda: process.poll() is not None or (rows.exists() and rows.read_bytes().count(b"\n") >= 4))
        process.send_signal(number)
        out, err = process.communicate()
    assert process.returncode == status, err
    rows, (known,) = _rows(tmp_path), _runs(tmp_path)
    assert len(rows) >= 4
    assert known["state"] == f"stopped by {number.name} after {len(rows)} of 10000 launches"
    assert "mobilenet_0.5" in out
    assert known["state"] in out
    assert "Traceback" not in err


def test_a_second_ctrl_c_exits_at_once_without_a_traceback(converted, tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Results, "append_row", interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert _main(converted, tmp_path) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "stopped at once; results so far are saved" in capsys.readouterr().err


@needs.posix_signals
def test_a_signal_before_the_first_row(converted, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Results, "__init__", _signalled(Results.__init__))
    assert _main(converted, tmp_path) == 143
    assert "stopped by SIGTERM after 0 of 6 launches: nothing" in capsys.readouterr().out
    assert not (tmp_path / "report.html").exists()


def _signalled(function):
    def wrapper(*args):
        function(*args)
        signal.raise_signal(signal.SIGTERM)

    return wrapper


def test_the_tool_is_downloaded_for_the_device(flags, phone, tool, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(fetch, "fetch", lambda *words, refresh: asked.append((*words, refresh)) or tool)
    flags = [flag for flag in flags if not flag.startswith("--benchmark_binary")]
    assert run.main([*flags, "--fetch_binary"]) == 0
    phone.write_command("getprop", "case $1 in *abilist) echo arm64-v8a,armeabi-v7a;; *release) echo 14;; esac")
    assert run.main([*flags, "--fetch_binary=classic", "--refetch"]) == 0
    folder = tmp_path / "out/binaries"
    assert asked == [
        ("litert", "linux", [os.uname().machine], folder, False),
        ("classic", "android", ["arm64-v8a", "armeabi-v7a"], folder, True),
    ]


def test_a_device_named_twice_is_measured_once(bench, phone, tmp_path):
    assert bench(f"--serial={phone.serial},{phone.serial}") == 0
    assert len(read_rows(tmp_path / "out")) == 2

"""The adb target against a real adbd; see `conftest.Phone`."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from fd_keras.android_bench import adb, device_info, fetch, report, run
from fd_keras.android_bench import device_target as tool_module
from fd_keras.android_bench.plan import BenchError, Plan, find_models, read_models
from fd_keras.android_bench.results import CannotWrite, Results, read_rows, read_runs
from fd_keras.android_bench.shell import Gone

QUICK = ["--rounds=2", "--runs=4", "--cooldown=0", "--warmup=1", "--patience=20"]


@pytest.fixture
def bench(phone, models, tool, tmp_path):
    """A function that runs the program against the device; returns its exit status."""

    def call(*flags):
        return run.main([*_flags(phone, models, tool, tmp_path / "out"), *flags])

    return call


def _flags(phone, models, tool, out):
    where = [f"--models={models}", f"--output_dir={out}", f"--benchmark_binary={tool}", f"--adb={phone.adb}"]
    return [*where, *QUICK]


def test_a_plan_over_adb_gives_rows_logs_and_a_report(bench, phone, tmp_path, capsys):
    assert bench("--memory", "--op_profile") == 0
    out = tmp_path / "out"
    rows = read_rows(out)
    timed = [row for row in rows if row.kind == "time"]
    assert len(timed) == 4
    assert sorted(row.kind for row in rows if row.kind != "time") == ["memory"] * 2 + ["profile"] * 2
    assert {row.median_ns for row in timed} == {1e6}
    assert {row.runs for row in timed} == {4}
    assert {(row.target, row.machine, row.device) for row in rows} == {("adb", "board", phone.serial)}
    assert all("exit status 0" in (out / row.log).read_text() for row in rows)
    assert {row.memory_mb.get("peak") for row in rows if row.kind == "memory"} == {12.5}
    assert {tuple(map(tuple, row.ops)) for row in rows if row.kind == "profile"} == {
        (("CONV_2D", 0.75, "stem"), ("MEAN", 0.25, "mean"))
    }
    (known,) = read_runs(out).values()
    assert known["state"] == "complete"
    assert known["environment"]["kind"] == "board"
    page = (out / "report.html").read_text()
    assert "not a phone" in page
    assert "1.000 ms" in page
    assert "<td>12.5</td>" in page
    assert "convolution: 0.750 ms" in page
    table = capsys.readouterr().out
    assert "1.000" in table
    assert "peak MB" in table
    assert "None" not in table


def test_files_are_pushed_once_and_under_their_hash(bench, phone, models):
    assert bench() == 0
    folder = phone.root / adb.FOLDER.lstrip("/")
    first = {path.name: path.stat().st_ino for path in folder.iterdir()}  # adb itself carries the time over
    assert len(first) == 3
    assert not any("part" in name for name in first)
    assert bench("--fresh") == 0
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == first
    damaged = next(path for path in folder.iterdir() if path.suffix == ".tflite")
    damaged.write_bytes(b"damaged")
    assert bench("--fresh") == 0
    assert damaged.stat().st_size > 100


def test_a_lost_execute_bit_is_set_again(bench, phone):
    assert bench() == 0
    (binary,) = (phone.root / adb.FOLDER.lstrip("/")).glob("*.sh")
    binary.chmod(0o644)
    assert bench("--fresh") == 0


def test_a_storage_that_executes_nothing_is_told(bench, phone, capsys):
    phone.adb_shell("mount -o remount,noexec /data/local/tmp")
    try:
        assert bench() == 2
        assert "cannot be made executable: is /data/local/tmp/android_bench mounted noexec?" in capsys.readouterr().err
    finally:
        phone.adb_shell("mount -o remount,exec /data/local/tmp")


def test_paths_with_spaces_and_quotes_are_taken_as_they_are(phone, models, tool, tmp_path):
    folder = models.rename(tmp_path / "my models, $(false) 'new'")
    (folder / "mobilenet_0.5_int8.tflite").rename(folder / "it's a $net `x`; exit_int8.tflite")
    binary = shutil.copy(tool, tmp_path / "the tool's copy; false")
    assert run.main(_flags(phone, folder, binary, tmp_path / "out put")) == 0
    rows = read_rows(tmp_path / "out put")
    assert len(rows) == 4
    assert {row.model for row in rows} == {"fd_mobilenet_0.25", "it's a $net `x`; exit"}
    assert all((tmp_path / "out put" / row.log).exists() for row in rows)


def test_clean_removes_our_files_alone(bench, phone, models, tool, tmp_path):
    (phone.root / "data/local/tmp/other").write_text("not ours")
    assert bench("--clean") == 0
    assert [path.name for path in (phone.root / "data/local/tmp").iterdir()] == ["other"]
    assert bench("--fresh") == 0
    assert run.main([f"--adb={phone.adb}", "--clean_only"]) == 0
    assert [path.name for path in (phone.root / "data/local/tmp").iterdir()] == ["other"]


def test_statuses_and_output_are_the_devices_own(phone):
    shell = adb.Adb(phone.serial, phone.adb)
    assert shell.run("echo out; echo err >&2; exit 7") == (7, "out\nerr\n")
    assert shell.run("sh -c 'kill -9 $$'").status == 137
    assert shell.run("printf 'no newline'") == (0, "no newline")
    with pytest.raises(BenchError, match="`false` failed with status 1"):
        shell.check("false")
    with pytest.raises(TimeoutError, match="within 1 s"):
        shell.run("sleep 5", timeout=1)


def test_a_shell_that_dies_is_not_taken_for_a_command_that_failed(phone):
    with pytest.raises(Gone):
        adb.Adb(phone.serial, phone.adb).run("kill -9 $PPID $$")


def test_an_unknown_device_is_gone(phone):
    with pytest.raises(Gone, match="not found"):
        adb.Adb("nosuch", phone.adb).run("true")


def test_a_plan_that_is_done_begins_anew_and_one_that_is_not_goes_on(bench, phone, tmp_path, capsys):
    assert bench() == 0
    assert bench() == 0
    assert len(read_runs(tmp_path / "out")) == 2
    lines = (tmp_path / "out/rows.jsonl").read_text().splitlines()
    (tmp_path / "out/rows.jsonl").write_text("\n".join(lines[:-1]) + '\n{"run": "cut')
    assert bench() == 0
    assert "going on with run" in capsys.readouterr().err
    rows = read_rows(tmp_path / "out")
    assert len(rows) == 8
    assert len({(row.run, row.key) for row in rows}) == 8


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_plan_goes_on_with_no_row_lost_or_doubled(phone, models, tool, tmp_path, number):
    phone.fake(sleep=0.2)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "android_bench.run", *_flags(phone, models, tool, out), "--rounds=4"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        _wait_for_rows(out, 3, process)
        process.send_signal(number)
        process.communicate(timeout=30)
    finally:
        process.kill()
    kept = read_rows(out)
    assert 3 <= len(kept) < 8
    again = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert again.returncode == 0, again.stderr
    rows = read_rows(out)
    assert rows[: len(kept)] == kept
    assert len(rows) == 8
    assert len({row.key for row in rows}) == 8
    assert len({row.run for row in rows}) == 1


def _wait_for_rows(out, count, process):
    deadline = time.monotonic() + 30
    while not (out / "rows.jsonl").exists() or (out / "rows.jsonl").read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)


def test_a_device_that_drops_off_in_mid_plan_comes_back(bench, phone, tmp_path, capsys):
    phone.fake(sleep=0.3)
    out = tmp_path / "out"

    def pull_the_plug():
        while not (out / "rows.jsonl").exists() or not (out / "rows.jsonl").read_bytes():
            time.sleep(0.02)
        phone.switch_off()
        time.sleep(1)
        shutil.rmtree(phone.root / adb.FOLDER.lstrip("/"))  # it may come back wiped
        phone.switch_on()

    puller = threading.Thread(target=pull_the_plug, daemon=True)
    puller.start()
    assert bench("--rounds=3") == 0
    puller.join()
    rows = read_rows(out)
    assert len(rows) == 6
    assert len({row.key for row in rows}) == 6
    assert "connection broke" in capsys.readouterr().err


def test_a_device_that_stays_away_ends_the_run_with_what_there_is(bench, phone, tmp_path, capsys):
    phone.fake(sleep=0.2)
    out = tmp_path / "out"

    def pull_the_plug():
        while not (out / "rows.jsonl").exists() or not (out / "rows.jsonl").read_bytes():
            time.sleep(0.02)
        phone.switch_off()

    threading.Thread(target=pull_the_plug, daemon=True).start()
    assert bench("--patience=1", "--rounds=4") == 1
    assert "not back after 1 s" in capsys.readouterr().err
    (known,) = read_runs(out).values()
    assert known["state"].startswith("failed after")
    assert "not back" in known["failures"][0]
    phone.reset()
    assert bench("--rounds=4") == 0
    rows = read_rows(out)
    assert len(rows) == 8
    assert len({row.run for row in rows}) == 1


def test_a_tool_that_is_killed_is_tried_again_and_then_given_up(bench, phone, tmp_path, capsys):
    phone.fake(signal=9)
    assert bench("--repeats=1") == 1
    assert len(phone.calls()) == 4  # two models, each given up after its second attempt
    assert "killed by signal 9 (short of memory" in capsys.readouterr().err
    phone.fake(signal=None)
    assert bench("--repeats=1") == 0
    assert len(read_rows(tmp_path / "out")) == 4


def test_a_tool_that_hangs_is_given_up_and_does_not_stay(bench, phone, capsys):
    phone.fake(sleep=60)
    assert bench("--timeout=1", "--repeats=0", "--rounds=1") == 1
    assert "no answer within 1 s" in capsys.readouterr().err
    assert len(phone.calls()) == 2
    assert not phone.adb_shell("pgrep -f '[-]-graph='").stdout


def test_a_tool_that_outlived_an_earlier_run_is_ended(bench, phone):
    phone.write(f"{adb.FOLDER}/old", "sleep 60; true\n")
    phone.adb_shell(f"exec <&- >&- 2>&-; sh {adb.FOLDER}/old --graph=x &")
    assert phone.adb_shell("pgrep -f '[-]-graph='").stdout
    assert bench("--rounds=1") == 0
    assert not phone.adb_shell("pgrep -f '[-]-graph='").stdout


def test_a_device_that_hangs_comes_back_and_costs_no_attempt(bench, tmp_path, monkeypatch, capsys):
    answer, hung = adb.Adb.run, []

    def run_unless_hung(shell, command, *others, **named):
        if "--num_threads" in command and not hung:
            hung.append(True)
        if hung == [True]:
            raise TimeoutError("no answer within 30 s")
        return answer(shell, command, *others, **named)

    monkeypatch.setattr(adb.Adb, "run", run_unless_hung)
    monkeypatch.setattr(adb.Adb, "reconnect", lambda *_: hung.append(False))
    assert bench("--repeats=0") == 0
    assert "no answer within 30 s" in capsys.readouterr().err
    assert len(read_rows(tmp_path / "out")) == 4


def test_a_device_that_answers_but_cannot_be_set_up_again_is_given_up(bench, phone, monkeypatch, capsys):
    install, launch = device_info.install, tool_module.DeviceTarget._launch

    def lose(*_, **__):
        monkeypatch.setattr(device_info, "install", lose)
        raise Gone("the connection broke again")

    monkeypatch.setattr(tool_module.DeviceTarget, "_launch", lose)
    assert bench("--patience=1") == 1
    assert "not to be had again within 1 s: the connection broke again" in capsys.readouterr().err
    monkeypatch.setattr(device_info, "install", install)
    monkeypatch.setattr(tool_module.DeviceTarget, "_launch", launch)
    assert bench() == 0


def test_a_flag_that_the_tool_does_not_know_ends_the_run(bench, phone, fixture_text, capsys):
    phone.fake(output=fixture_text("bm_214_unknownflag_count1.txt"))
    assert bench() == 1
    err = capsys.readouterr().err
    assert "does not know --bogus=1" in err
    assert len(phone.calls()) == 1


@pytest.fixture
def fixture_text(tool):
    return lambda name: (tool.parent / name).read_text()


def test_real_output_of_the_tool_becomes_a_row(bench, phone, fixture_text, tmp_path):
    phone.fake(output=fixture_text("bm_214_x86_f32.txt"))
    assert bench() == 0
    rows = read_rows(tmp_path / "out")
    assert {(row.statistic, row.median_ns, row.min_ns, row.mean_ns) for row in rows} == {
        ("min", None, 27593e3, 58288.2e3)
    }
    assert {row.init_ns for row in rows} == {603e3}
    assert rows[0].memory_mb == {"init": 3.33594, "overall": 9.40234}


def test_no_profile_though_it_was_asked_for_is_an_error(bench, phone, fixture_text, tmp_path, capsys):
    phone.fake(output=fixture_text("bm_214_x86_f32.txt"))
    assert bench("--op_profile", "--repeats=0", "--rounds=1") == 1
    assert "printed no profile, though it was asked for one" in capsys.readouterr().err
    assert {row.kind for row in read_rows(tmp_path / "out")} == {"time"}


def test_alien_output_is_kept_raw_and_reported(bench, phone, tmp_path, capsys):
    phone.fake(output="Segmentation fault\n")
    assert bench("--repeats=0") == 1
    assert "not the whole output of a TFLite benchmark tool" in capsys.readouterr().err
    assert not (tmp_path / "out/rows.jsonl").read_text()
    logs = list((tmp_path / "out/logs").rglob("*.txt"))
    assert len(logs) == 2
    assert "Segmentation fault" in logs[0].read_text()


def test_a_binary_for_another_processor_is_refused_before_it_is_pushed(phone, models, tmp_path, capsys):
    binary = tmp_path / "aarch64"
    binary.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00" + bytes(40))
    flags = _flags(phone, models, binary, tmp_path / "out")
    assert run.main(flags) == 2
    err = capsys.readouterr().err
    assert "built for arm64-v8a" in err
    assert "runs x86_64" in err
    assert "--fetch_binary" in err
    assert not (phone.root / adb.FOLDER.lstrip("/")).exists()


def test_a_binary_for_this_processor_is_run(phone, models, tmp_path, capsys):
    assert run.main(_flags(phone, models, "/bin/true", tmp_path / "out")) == 1
    assert "not the whole output" in capsys.readouterr().err


def test_a_full_device_is_told_and_left_clean(phone, models, tool, tmp_path, capsys):
    (phone.root / "data/local/tmp/full").write_bytes(bytes(4_000_000))
    (models / "big_float32.tflite").write_bytes(b"\x1c\0\0\0TFL3" + os.urandom(1_000_000))
    assert run.main(_flags(phone, models, tool, tmp_path / "out")) == 2
    err = capsys.readouterr().err
    assert "No space left" in err
    assert "free some space" in err
    assert not list((phone.root / adb.FOLDER.lstrip("/")).glob("*.part"))


def test_what_a_failed_push_left_is_removed(bench, phone, monkeypatch):
    def fill(shell, local, remote):
        phone.write(remote, "half")
        raise BenchError("No space left on device")

    monkeypatch.setattr(adb.Adb, "push", fill)
    assert bench() == 2
    assert not list((phone.root / adb.FOLDER.lstrip("/")).iterdir())


def test_what_arrives_damaged_is_told_and_not_kept(phone, models, tool, tmp_path, monkeypatch, capsys):
    push, cut = adb.Adb.push, tmp_path / "cut"

    def push_less(shell, local, remote):
        cut.write_bytes(local.read_bytes()[:-1])
        push(shell, cut, remote)

    monkeypatch.setattr(adb.Adb, "push", push_less)
    assert run.main(_flags(phone, models, tool, tmp_path / "out")) == 2
    assert "arrived damaged" in capsys.readouterr().err
    assert list((phone.root / adb.FOLDER.lstrip("/")).iterdir()) == []


def test_without_cpufreq_and_taskset_it_runs_unpinned_and_says_so(bench, phone, capsys):
    phone.write("/usr/local/bin/taskset", "")
    hidden = phone.root / "usr/bin/taskset"
    content, mode = hidden.read_bytes(), hidden.stat().st_mode
    hidden.unlink()
    (phone.root / "usr/local/bin/taskset").unlink()
    try:
        assert bench() == 0
        assert "no taskset: --core=big is not possible" in capsys.readouterr().err
        assert bench("--core=1") == 2
        assert "has no taskset" in capsys.readouterr().err
    finally:
        hidden.write_bytes(content)
        hidden.chmod(mode)


CPU = "/sys/devices/system/cpu"


def _four_cores(phone, khz=(1_800_000, 1_800_000, 2_400_000, 2_400_000)):
    phone.write(f"{CPU}/online", f"0-{len(khz) - 1}\n")
    for core, value in enumerate(khz):
        folder = f"{CPU}/cpu{core}/cpufreq"
        phone.write(f"{folder}/cpuinfo_max_freq", f"{value}\n")
        phone.write(f"{folder}/scaling_max_freq", f"{value}\n")
        phone.write(f"{folder}/scaling_cur_freq", f"{value}\n")
        phone.write(f"{folder}/scaling_governor", "schedutil\n")


def test_big_and_little_cores_are_told_apart_and_pinned(bench, phone, tmp_path):
    # Only cores 0 and 1 exist for real: let the big ones be these.
    _four_cores(phone, (1_800_000, 2_400_000))
    assert bench("--core=big,little") == 0
    rows = read_rows(tmp_path / "out")
    assert [cores for cores, _ in phone.calls()] == [{"big": "1", "little": "0"}[row.core] for row in rows]
    assert {row.core for row in rows} == {"big", "little"}
    (known,) = read_runs(tmp_path / "out").values()
    assert known["environment"]["clocks"] == "1 x 1.80 GHz + 1 x 2.40 GHz"
    assert rows[0].before["governor"] == {"0": "schedutil", "1": "schedutil"}


def test_a_mask_is_taken_as_it_is(bench, phone):
    _four_cores(phone, (1, 1))
    assert bench("--core=2") == 0
    assert {cores for cores, _ in phone.calls()} == {"1"}
    assert bench("--core=80") == 2


def test_a_clock_that_is_capped_meanwhile_flags_the_row_and_it_is_repeated(bench, phone, tmp_path, capsys):
    _four_cores(phone, (1_800_000, 2_400_000))
    phone.fake(sleep=0.2)

    def throttle():
        while len(phone.calls()) < 2:
            time.sleep(0.02)
        phone.write(f"{CPU}/cpu1/cpufreq/scaling_max_freq", "1000000\n")

    threading.Thread(target=throttle, daemon=True).start()
    assert bench("--repeats=1", "--rounds=3") == 0
    rows = read_rows(tmp_path / "out")
    flagged = [row for row in rows if row.flags]
    assert flagged
    assert "clock capped at 1000 of 2400 MHz" in flagged[-1].flags[0]
    assert {row.attempt for row in flagged} == {1, 2}
    assert "rounds cannot be trusted: clock capped" in capsys.readouterr().err
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


def test_what_the_thermal_service_says_flags_the_row(bench, phone, tmp_path, capsys):
    script = f"#!/bin/sh\n[ $1 = thermalservice ] && cat <<'end'\n{THERMALSERVICE.format(status=2)}end\n"
    phone.write("/usr/local/bin/dumpsys", script, 0o755)
    assert bench("--rounds=1", "--repeats=1") == 0
    rows = read_rows(tmp_path / "out")
    assert {(row.attempt, *row.flags) for row in rows} == {(n, "throttled by heat (thermal status 2)") for n in (1, 2)}
    assert {row.before["temperature"] for row in rows} == {41.5}
    assert "the phone is throttled by heat (thermal status 2): let it cool down" in capsys.readouterr().err


def test_an_unsteady_launch_is_repeated_as_often_as_told_over_an_interruption_too(bench, phone, fixture_text, tmp_path):
    phone.fake(output=fixture_text("bm_214_x86_int8_opprof.txt"))
    for _ in range(2):
        assert bench("--rounds=1", "--repeats=1") == 0
        rows = read_rows(tmp_path / "out")
        assert [row.attempt for row in rows] == [1, 2, 1, 2]
        assert len({(row.run, row.model) for row in rows}) == 2
        assert {row.flags[0] for row in rows} == {"unsteady: standard deviation 53% of the mean"}
        lines = (tmp_path / "out/rows.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / "out/rows.jsonl").write_text("".join(lines[:-1]))


def test_a_time_that_drifts_is_measured_again(bench, phone, tmp_path):
    phone.fake(sleep=0.1)

    def disturb():
        while len(phone.calls()) < 8:
            time.sleep(0.01)
        phone.fake(us=2000)
        while len(phone.calls()) < 10:
            time.sleep(0.01)
        phone.fake(us=1000)

    threading.Thread(target=disturb, daemon=True).start()
    assert bench("--rounds=8") == 0
    rows = read_rows(tmp_path / "out")
    disturbed = [row for row in rows if row.median_ns != 1e6]
    assert disturbed
    assert all("drifted +100%" in row.flags[0] for row in disturbed)
    last = {row.key: row for row in rows}
    assert len(last) == 16
    assert {row.median_ns for row in last.values()} == {1e6}


def test_state_is_read_before_and_after(bench, phone, tmp_path, capsys):
    _four_cores(phone, (1_800_000, 2_400_000))
    zone = "/sys/class/thermal/thermal_zone"
    for number, (kind, value) in enumerate({"battery": 99000, "cpu-1-0": 41500, "gpu": -274000}.items()):
        phone.write(f"{zone}{number}/type", f"{kind}\n")
        phone.write(f"{zone}{number}/temp", f"{value}\n")
    phone.write(
        "/usr/local/bin/dumpsys",
        '#!/bin/sh\n[ $1 = battery ] && printf "  level: 15\\n  status: 3\\n  temperature: 311\\n"\n',
        0o755,
    )
    assert bench() == 0
    (row, *_) = read_rows(tmp_path / "out")
    assert row.before["temperature"] == row.after["temperature"] == 41.5
    assert row.before["battery"] == {"percent": 15, "charging": False, "temperature": 31.1}
    assert "the battery is at 15%" in capsys.readouterr().err


def test_the_clock_while_the_tool_ran_is_kept(bench, phone, tmp_path):
    _four_cores(phone, (1_800_000, 2_400_000))
    path = f"{CPU}/cpu1/cpufreq/stats/time_in_state"
    phone.write(path, "600000 100\n2400000 10\n")
    phone.fake(sleep=0.3)

    def run_fast():
        while not phone.calls():
            time.sleep(0.01)
        phone.write(path, "600000 110\n2400000 40\n")

    threading.Thread(target=run_fast, daemon=True).start()
    assert bench("--rounds=1") == 0
    first, second = read_rows(tmp_path / "out")
    assert (first.after["busy_mhz"], second.after["busy_mhz"]) == (1950, None)  # 10 of 40 ticks at 600, 30 at 2400


def test_a_full_disk_here_ends_the_run(bench, phone, monkeypatch, capsys):
    def full(*_):
        raise CannotWrite("no space left")

    monkeypatch.setattr(Results, "keep_log", full)
    assert bench() == 1
    assert "no space left" in capsys.readouterr().err
    assert len(phone.calls()) == 1


def test_a_hot_device_cools_down_first(bench, phone, monkeypatch):
    zone, told = "/sys/class/thermal/thermal_zone0", []
    phone.write(f"{zone}/type", "cpu\n")
    phone.write(f"{zone}/temp", "60\n")

    def cool(kind, messages):
        told.extend((kind, message, len(phone.calls())) for message in messages)
        phone.write(f"{zone}/temp", "35\n")

    monkeypatch.setattr(tool_module, "tell", cool)
    assert bench("--max_temp=40", "--rounds=1") == 0
    assert told == [("waiting", f"{phone.serial} is at 60 degrees: cooling down to 40", 0)]


def test_a_device_that_stays_hot_is_measured_and_flagged(phone, models, tool):
    phone.write("/sys/class/thermal/thermal_zone0/type", "cpu\n")
    phone.write("/sys/class/thermal/thermal_zone0/temp", "60\n")
    plan = Plan(tuple(read_models(find_models(models))[0]), rounds=1, repeats=0)
    care = tool_module.Care(cooldown=0, max_temp=40, max_wait=0)
    rows = list(tool_module.DeviceTarget(adb.Adb(phone.serial, phone.adb), plan, tool, care).measure(lambda: False))
    assert [row.flags for row in rows] == [["60 degrees, above --max_temp=40"]] * 2


def test_it_rests_before_each_launch(bench, monkeypatch):
    rests = []
    monkeypatch.setattr(tool_module, "_sleep", lambda seconds, stop: rests.append(seconds))
    assert bench("--cooldown=7", "--rounds=1") == 0
    assert rests == [7, 7]


def test_a_limit_of_heat_that_cannot_be_seen_is_told(bench, capsys):
    assert bench("--max_temp=40", "--rounds=1") == 0
    assert "does not tell its temperature: --max_temp=40 does nothing" in capsys.readouterr().err


def test_clocks_that_are_held_lower_are_not_taken_for_throttled(bench, phone, tmp_path):
    _four_cores(phone, (1_800_000, 2_400_000))
    cap = f"{CPU}/cpu1/cpufreq/scaling_max_freq"
    phone.write("/usr/local/bin/getprop", "#!/bin/sh\ncase $1 in *model) echo Phone 7;; esac\n", 0o755)
    script = f"#!/bin/sh\ncase $3 in true) echo 1500000;; *) echo 2400000;; esac > {cap}\n"
    phone.write("/usr/local/bin/cmd", script, 0o755)
    assert bench("--rounds=1") == 0
    rows = read_rows(tmp_path / "out")
    assert {row.before["max_mhz"]["1"] for row in rows} == {1500}
    assert not any(row.flags for row in rows)
    assert (phone.root / cap.lstrip("/")).read_text() == "2400000\n"


def test_a_phone_is_told_from_a_board_and_its_clocks_are_held(bench, phone, tmp_path):
    phone.write(
        "/usr/local/bin/getprop", "#!/bin/sh\ncase $1 in *model) echo Phone 7;; *release) echo 14;; esac\n", 0o755
    )
    phone.write("/usr/local/bin/cmd", "#!/bin/sh\necho $* >> /fake/power\n", 0o755)
    assert bench() == 0
    (known,) = read_runs(tmp_path / "out").values()
    environment = known["environment"]
    assert (environment["device"], environment["kind"], environment["android"]) == ("Phone 7", "phone", "14")
    asked = (phone.root / "fake/power").read_text().splitlines()
    assert asked == [f"power set-fixed-performance-mode-enabled {value}" for value in ("true", "false")]
    assert bench("--delegates=nnapi") == 2
    assert bench("--baseline=nosuch") == 2
    asked = (phone.root / "fake/power").read_text().splitlines()
    assert asked[-1].endswith("false")


def test_clocks_are_held_again_after_a_reboot(bench, phone, monkeypatch):
    phone.write("/usr/local/bin/getprop", "#!/bin/sh\ncase $1 in *model) echo Phone 7;; esac\n", 0o755)
    phone.write("/usr/local/bin/cmd", "#!/bin/sh\necho $3 >> /fake/power\n", 0o755)
    launch = tool_module.DeviceTarget._launch

    def lose(*_):
        monkeypatch.setattr(tool_module.DeviceTarget, "_launch", launch)
        raise Gone("the connection broke")

    monkeypatch.setattr(tool_module.DeviceTarget, "_launch", lose)
    assert bench("--rounds=1") == 0
    assert (phone.root / "fake/power").read_text().split() == ["true", "true", "false"]


def test_the_tool_is_fetched_for_the_device(phone, models, tool, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(fetch, "fetch", lambda *words, refresh: asked.append((*words, refresh)) or tool)
    flags = [f"--models={models}", f"--output_dir={tmp_path}", f"--adb={phone.adb}", *QUICK, "--rounds=1"]
    assert run.main([*flags, "--fetch_binary"]) == 0
    abis = "#!/bin/sh\ncase $1 in *abilist) echo arm64-v8a,armeabi-v7a;; *release) echo 14;; esac\n"
    phone.write("/usr/local/bin/getprop", abis, 0o755)
    assert run.main([*flags, "--fetch_binary=classic", "--refetch"]) == 0
    assert asked == [
        ("litert", "linux", [os.uname().machine], tmp_path / "binaries", False),
        ("classic", "android", ["arm64-v8a", "armeabi-v7a"], tmp_path / "binaries", True),
    ]


@pytest.mark.parametrize(("name", "value"), [("*kernel.qemu", "1"), ("*boot.qemu", "1"), ("*hardware", "ranchu")])
def test_an_emulator_is_never_taken_for_a_phone(bench, phone, tmp_path, name, value):
    phone.write(
        "/usr/local/bin/getprop", f"#!/bin/sh\ncase $1 in *model) echo Phone 7;; {name}) echo {value};; esac\n", 0o755
    )
    phone.write("/usr/local/bin/cmd", "#!/bin/sh\necho $* >> /fake/power\n", 0o755)
    assert bench("--rounds=1") == 0
    assert {row.machine for row in read_rows(tmp_path / "out")} == {"emulator"}
    assert not (phone.root / "fake/power").exists()  # its clocks are not its own
    page = (tmp_path / "out/report.html").read_text()
    assert "emulated: these times mean nothing for a phone" in page
    (tmp_path / "out/runs.jsonl").write_text("")
    (known,) = report.read(tmp_path / "out")
    assert known.kind == "emulator"


def test_delegates_and_threads_become_flags_of_the_tool(bench, phone, tmp_path):
    assert bench("--delegates=xnnpack,none,gpu", "--threads=1,2", "--rounds=1") == 0
    asked = [arguments for _, arguments in phone.calls()]
    for flag in ("use_xnnpack=true", "use_xnnpack=false", "use_gpu=true", "num_threads=2"):
        assert any(f"--{flag}" in arguments for arguments in asked), flag
    assert len(read_rows(tmp_path / "out")) == 12


def test_a_delegate_that_the_build_lacks_or_that_refuses_is_an_error(bench, phone, capsys):
    assert bench("--delegates=nnapi") == 2
    assert "has no --use_nnapi: try --fetch_binary=classic" in capsys.readouterr().err
    phone.fake(gpu_refuses=1)
    assert bench("--delegates=gpu", "--repeats=0") == 1
    assert "takes nothing of this model" in capsys.readouterr().err


def test_the_litert_tool_gets_its_own_flags(bench, phone):
    phone.fake(help="\n".join(f"\t--{name}=0" for name in ("graph", "num_threads", "use_cpu", "use_profiler")))
    assert bench("--op_profile", "--rounds=1") == 0
    asked = [arguments for _, arguments in phone.calls()]
    assert all("--use_cpu=true" in arguments and "xnnpack" not in arguments for arguments in asked)
    assert sum("--use_profiler=true" in arguments for arguments in asked) == 2


def test_several_devices_side_by_side(phones, models, tool, tmp_path, capsys):
    flags = _flags(phones[0], models, tool, tmp_path / "out")
    phones[1].fake(us=3000)
    for phone in phones:
        phone.adb_shell("true")
    assert run.main([*flags, "--serial=all"]) == 0
    rows = read_rows(tmp_path / "out")
    assert {(row.device, row.median_ns) for row in rows} == {(phones[0].serial, 1e6), (phones[1].serial, 3e6)}
    assert len(rows) == 8
    assert len(read_runs(tmp_path / "out")) == 2
    assert capsys.readouterr().out.count("spread:") == 2
    assert run.main(flags) == 2
    err = capsys.readouterr().err
    assert "2 devices: choose with --serial" in err
    assert phones[1].serial in err


def test_a_device_named_twice_is_measured_once(bench, phone, tmp_path):
    assert bench(f"--serial={phone.serial},{phone.serial}") == 0
    assert len(read_rows(tmp_path / "out")) == 4


def test_a_device_that_went_away_is_gone_whatever_the_files_are_called(phone, tmp_path):
    local = tmp_path / "remote"
    local.write_text("No space left")
    phone.switch_off()
    with pytest.raises(Gone):
        for _ in range(50):
            adb.Adb(phone.serial, phone.adb).push(local, "/data/local/tmp/file")
            time.sleep(0.1)


def test_a_file_that_vanished_is_named(phone, tmp_path):
    with pytest.raises(BenchError, match="nosuch: cannot be read: No such file"):
        device_info.install(adb.Adb(phone.serial, phone.adb), tmp_path / "nosuch")


def test_choosing_a_device(phone):
    (chosen,) = adb.choose([], phone.adb)
    assert chosen.serial == phone.serial
    with pytest.raises(BenchError, match=rf"device nosuch is missing: .* \(adb lists {re.escape(phone.serial)}\)"):
        adb.choose(["nosuch"], phone.adb)
    subprocess.run([phone.adb, "disconnect"], capture_output=True)
    with pytest.raises(BenchError, match="no device: switch on USB debugging"):
        adb.choose([], phone.adb)
    (chosen,) = adb.choose([phone.serial], phone.adb)  # a network serial is connected to
    assert chosen.run("true").status == 0


@pytest.mark.parametrize(
    ("state", "way_out"),
    [
        ("unauthorized", "allow USB debugging for this computer"),
        ("offline", "unplug it and plug it in again"),
        ("no permissions (user in plugdev group; are your udev rules wrong?); see [web]", "install udev rules"),
        ("recovery", "adb reboot"),
    ],
)
def test_a_device_that_is_not_ready_gets_its_remedy(tmp_path, state, way_out):
    client = _client(tmp_path, f"R58M12 {state} usb:1-4 transport_id:1")
    with pytest.raises(BenchError, match=f"device R58M12 is {state.partition(' (')[0]}: .*{way_out}"):
        adb.choose([], client)


def test_a_device_that_forgets_us_in_mid_plan_is_waited_for_with_its_remedy(tmp_path):
    client = _client(tmp_path, "A unauthorized")
    with pytest.raises(Gone, match="A is unauthorized: unlock the phone and allow USB debugging"):
        adb.Adb("A", client).run("true")
    with pytest.raises(BenchError, match="A: not back after 0 s .unauthorized.: unlock the phone"):
        adb.Adb("A", client).reconnect(lambda: False, 0)


def _client(tmp_path, *lines, connect="true"):
    """Stands in for the adb client, where no real device could be brought into the state."""
    path = tmp_path / "adb"
    listing = "".join(f"echo '{line}'\n" for line in ("List of devices attached", *lines))
    path.write_text(f"#!/bin/sh\n[ $1 = connect ] && {{ {connect}; exit; }}\n{listing}")
    path.chmod(0o755)
    return str(path)


def test_all_devices_are_those_that_are_ready_and_the_others_are_told(tmp_path, capsys):
    client = _client(tmp_path, "A device model:Phone_7", "B unauthorized", "C device")
    assert [shell.serial for shell in adb.choose(["all"], client)] == ["A", "C"]
    assert capsys.readouterr().err.startswith("warning: B is unauthorized, and left out: unlock the phone")
    with pytest.raises(BenchError, match="device B is unauthorized"):
        adb.choose(["all"], _client(tmp_path, "B unauthorized"))


def test_a_device_in_the_network_that_does_not_answer_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(adb, "QUICK_SECS", 0.5)
    with pytest.raises(BenchError, match="device 192.0.2.1:5555 is missing"):
        adb.choose(["192.0.2.1:5555"], _client(tmp_path, "A device", connect="sleep 20"))


def test_an_adb_that_fails_or_hangs_is_told(tmp_path, monkeypatch):
    path = tmp_path / "adb"
    monkeypatch.setattr(adb, "QUICK_SECS", 0.5)
    for script, message in {"echo broken; exit 1": "failed: broken", "sleep 20": "no answer within 0.5 s"}.items():
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        with pytest.raises(BenchError, match=f"{message}: try `adb kill-server`"):
            adb.devices(str(path))


def test_facts_of_a_plain_linux_device(phone):
    facts = device_info.read_facts(adb.Adb(phone.serial, phone.adb))
    assert facts["kind"] == "board"
    assert facts["abis"] == [os.uname().machine]
    assert facts["taskset"]
    assert device_info.read_state(adb.Adb(phone.serial, phone.adb))["max_mhz"] == {}


def test_rows_are_json(bench, tmp_path):
    assert bench() == 0
    for line in (tmp_path / "out/rows.jsonl").read_text().splitlines():
        json.loads(line)

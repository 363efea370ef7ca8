"""Plans on a real adbd; see `conftest.Phone`."""

import shutil
import signal
import subprocess
import sys
import threading

import pytest

from fd_keras.android_bench import adb, device_files, launcher, run
from fd_keras.android_bench.launcher import Launcher
from fd_keras.android_bench.report_model import read_report
from fd_keras.android_bench.results import Results, ResultsWriteError, read_rows, read_runs
from fd_keras.android_bench.shell import ConnectionLostError


def test_a_plan_over_adb_gives_rows_logs_and_a_report(bench, phone, tmp_path, capsys):
    assert bench("--rounds=2", "--memory", "--op_profile") == 0
    out = tmp_path / "out"
    rows = read_rows(out)
    timed = [row for row in rows if row.kind == "time"]
    assert len(timed) == 4
    assert sorted(row.kind for row in rows if row.kind != "time") == ["memory"] * 2 + ["profile"] * 2
    assert {row.latency.median_ns for row in timed} == {1e6}
    assert {row.latency.runs for row in timed} == {4}
    assert {(row.origin.target, row.origin.machine, row.origin.device) for row in rows} == {
        ("adb", "board", phone.serial)
    }
    assert all("exit status 0" in (out / row.details.log).read_text() for row in rows)
    assert {row.details.memory_mb.get("peak") for row in rows if row.kind == "memory"} == {12.5}
    assert {tuple(map(tuple, row.details.ops)) for row in rows if row.kind == "profile"} == {
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


def test_a_finished_plan_starts_over_and_an_unfinished_one_continues(bench, phone, tmp_path, capsys):
    assert bench() == 0
    assert bench() == 0
    assert len(read_runs(tmp_path / "out")) == 2
    lines = (tmp_path / "out/rows.jsonl").read_text().splitlines()
    (tmp_path / "out/rows.jsonl").write_text("\n".join(lines[:-1]) + '\n{"run": "cut')
    assert bench() == 0
    assert "continuing run" in capsys.readouterr().err
    rows = read_rows(tmp_path / "out")
    assert len(rows) == 4
    assert len({(row.run, row.key) for row in rows}) == 4


@pytest.mark.parametrize(("number", "done"), [(signal.SIGKILL, 3), (signal.SIGTERM, 4)])
def test_an_interrupted_plan_continues_without_lost_or_duplicate_rows(flags, phone, tmp_path, number, done):
    command, processes = [sys.executable, "-m", "android_bench.run", *flags, "--rounds=3"], []
    phone.at_launch(4, lambda: processes[0].send_signal(number))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        processes.append(process)
        output, _ = process.communicate()
    kept = read_rows(tmp_path / "out")
    assert len(kept) == done, output
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    rows = read_rows(tmp_path / "out")
    assert rows[:done] == kept
    assert len(rows) == 6
    assert len({row.key for row in rows}) == 6
    assert len({row.run for row in rows}) == 1


def test_a_device_that_disconnects_during_the_plan_comes_back(bench, phone, tmp_path, monkeypatch, capsys):
    reconnect, pulled = adb.AdbShell.reconnect, threading.Event()

    def pull_the_plug():
        phone.switch_off()
        shutil.rmtree(phone.root / adb.FOLDER.lstrip("/"))  # it may come back without its files
        pulled.set()

    def plug_in(shell, *others):
        pulled.wait()
        phone.switch_on()
        reconnect(shell, *others)

    monkeypatch.setattr(adb.AdbShell, "reconnect", plug_in)
    phone.at_launch(2, pull_the_plug)
    assert bench("--rounds=2") == 0
    assert pulled.is_set()
    rows = read_rows(tmp_path / "out")
    assert len(rows) == 4
    assert len({row.key for row in rows}) == 4
    assert "connection broke" in capsys.readouterr().err


def test_a_device_that_does_not_come_back_ends_the_run_with_the_rows_so_far(bench, phone, tmp_path, capsys):
    phone.at_launch(2, phone.switch_off)
    assert bench("--patience=0", "--rounds=2") == 1
    assert "did not come back within 0 s" in capsys.readouterr().err
    (known,) = read_runs(tmp_path / "out").values()
    assert known["state"] == "failed after 1 of 4 launches"
    assert "did not come back" in known["failures"][0]
    phone.reset()
    assert bench("--patience=0", "--rounds=2") == 0
    rows = read_rows(tmp_path / "out")
    assert len(rows) == 4
    assert len({row.run for row in rows}) == 1


def test_a_model_whose_tool_is_killed_is_skipped_after_a_retry(bench, phone, tmp_path, capsys):
    phone.fake(signal=9)
    assert bench("--repeats=1") == 1
    assert len(phone.calls()) == 4  # two models, each skipped after its second attempt
    assert "killed by signal 9 (out of memory" in capsys.readouterr().err
    phone.fake(signal=None)
    assert bench("--repeats=1") == 0
    assert len(read_rows(tmp_path / "out")) == 2


def test_a_launch_on_a_device_that_hangs_does_not_count_as_an_attempt(bench, tmp_path, monkeypatch, capsys):
    answer, hung = adb.AdbShell.run, []

    def run_unless_hung(shell, command, *others, **named):
        if "--num_threads" in command and not hung:
            hung.append(True)
        if hung == [True]:
            raise TimeoutError("no answer within 30 s")
        return answer(shell, command, *others, **named)

    monkeypatch.setattr(adb.AdbShell, "run", run_unless_hung)
    monkeypatch.setattr(adb.AdbShell, "reconnect", lambda *_: hung.append(False))
    assert bench("--repeats=0") == 0
    assert "no answer within 30 s" in capsys.readouterr().err
    assert len(read_rows(tmp_path / "out")) == 2


def test_the_run_ends_if_a_device_cannot_be_set_up_again(bench, monkeypatch, capsys):
    def lose(*_, **__):
        raise ConnectionLostError("the connection broke again")

    def lose_for_good(*_):
        patched.setattr(device_files, "install", lose)
        lose()

    with monkeypatch.context() as patched:
        patched.setattr(launcher, "sleep", lambda *_: None)
        patched.setattr(Launcher, "run", lose_for_good)
        assert bench("--patience=0") == 1
    assert "did not come back within 0 s: the connection broke again" in capsys.readouterr().err
    assert bench() == 0


def test_a_model_that_repeatedly_disconnects_the_device_is_skipped(bench, tmp_path, monkeypatch, capsys):
    run_tool, lost = Launcher.run, []

    def lose_one_model(self, launch, cores):
        if launch.job.model.recipe == "int8":
            lost.append(launch)
            raise ConnectionLostError("the connection broke")
        return run_tool(self, launch, cores)

    monkeypatch.setattr(Launcher, "run", lose_one_model)
    assert bench("--rounds=2") == 1
    assert len(lost) == 3
    assert "gave up: the device disconnected 3 times while running it" in capsys.readouterr().err
    assert {row.launch.job.model.recipe for row in read_rows(tmp_path / "out")} == {"float32"}


def test_a_flag_that_the_tool_does_not_know_ends_the_run(bench, phone, fixture_text, capsys):
    phone.fake(output=fixture_text("bm_214_unknownflag_count1.txt"))
    assert bench() == 1
    err = capsys.readouterr().err
    assert "does not know --bogus=1" in err
    assert len(phone.calls()) == 1


def test_real_output_of_the_tool_becomes_a_row(bench, phone, fixture_text, tmp_path):
    phone.fake(output=fixture_text("bm_214_x86_f32.txt"))
    assert bench() == 0
    rows = read_rows(tmp_path / "out")
    assert {
        (row.latency.statistic, row.latency.median_ns, row.latency.min_ns, row.latency.mean_ns) for row in rows
    } == {("min", None, 27593e3, 58288.2e3)}
    assert {row.latency.init_ns for row in rows} == {603e3}
    assert rows[0].details.memory_mb == {"init": 3.33594, "overall": 9.40234}


def test_unexpected_output_is_logged_and_reported(bench, phone, tmp_path, capsys):
    phone.fake(output="Segmentation fault\n")
    assert bench("--repeats=0") == 1
    assert "not the complete output of a TFLite benchmark tool" in capsys.readouterr().err
    assert not (tmp_path / "out/rows.jsonl").read_text()
    logs = list((tmp_path / "out/logs").rglob("*.txt"))
    assert len(logs) == 2
    assert "Segmentation fault" in logs[0].read_text()


def test_an_unsteady_launch_is_repeated_up_to_the_limit_across_interruptions(bench, phone, fixture_text, tmp_path):
    phone.fake(output=fixture_text("bm_214_x86_int8_opprof.txt"))
    for _ in range(2):
        assert bench("--rounds=1", "--repeats=1") == 0
        rows = read_rows(tmp_path / "out")
        assert [row.attempt for row in rows] == [1, 2, 1, 2]
        assert len({(row.run, row.launch.job.model.name) for row in rows}) == 2
        assert {row.flags[0] for row in rows} == {"unsteady: standard deviation 53% of the mean"}
        lines = (tmp_path / "out/rows.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / "out/rows.jsonl").write_text("".join(lines[:-1]))


def test_the_clock_during_a_launch_is_stored(bench, phone, tmp_path):
    phone.set_cores()
    path = "/sys/devices/system/cpu/cpu1/cpufreq/stats/time_in_state"
    phone.write(path, "600000 100\n2400000 10\n")
    phone.at_launch(1, lambda: phone.write(path, "600000 110\n2400000 40\n"))
    assert bench() == 0
    first, second = (row.conditions.after["busy_mhz"] for row in read_rows(tmp_path / "out"))
    assert (first, second) == (1950, None)  # 10 of 40 ticks at 600, 30 at 2400


def test_a_full_disk_on_this_machine_ends_the_run(bench, phone, monkeypatch, capsys):
    def full(*_):
        raise ResultsWriteError("no space left")

    monkeypatch.setattr(Results, "write_log", full)
    assert bench() == 1
    assert "no space left" in capsys.readouterr().err
    assert len(phone.calls()) == 1


def test_name_and_android_version_of_a_phone_are_stored(bench, phone, tmp_path):
    phone.write_command("getprop", "case $1 in *model) echo Phone 7;; *release) echo 14;; esac")
    assert bench() == 0
    (known,) = read_runs(tmp_path / "out").values()
    environment = known["environment"]
    assert (environment["device"], environment["kind"], environment["android"]) == ("Phone 7", "phone", "14")


def test_an_emulator_is_reported_as_one(bench, phone, tmp_path):
    phone.write_command("getprop", "case $1 in *model) echo Phone 7;; *kernel.qemu) echo 1;; esac")
    phone.write_command("cmd", "echo $* >> /fake/power")
    assert bench() == 0
    assert {row.origin.machine for row in read_rows(tmp_path / "out")} == {"emulator"}
    assert not (phone.root / "fake/power").exists()  # an emulator does not control its clocks
    page = (tmp_path / "out/report.html").read_text()
    assert "emulated: times do not apply to phones" in page
    (tmp_path / "out/runs.jsonl").write_text("")
    (known,) = read_report(tmp_path / "out")
    assert known.kind == "emulator"


def test_several_devices_are_measured_and_reported_separately(phones, flags_for, tmp_path, capsys):
    flags = flags_for(phones[0])
    phones[1].fake(us=3000)
    for phone in phones:
        phone.adb_shell("true")
    assert run.main([*flags, "--serial=all"]) == 0
    rows = read_rows(tmp_path / "out")
    assert {(row.origin.device, row.latency.median_ns) for row in rows} == {
        (phones[0].serial, 1e6),
        (phones[1].serial, 3e6),
    }
    assert len(rows) == 4
    assert len(read_runs(tmp_path / "out")) == 2
    assert capsys.readouterr().out.count("spread:") == 2
    assert run.main(flags) == 2
    err = capsys.readouterr().err
    assert "2 devices; choose with --serial" in err
    assert phones[1].serial in err

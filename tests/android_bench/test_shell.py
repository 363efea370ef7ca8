import os
import shutil
import subprocess

import pytest

from fd_keras.android_bench import run
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.results import read_rows
from fd_keras.android_bench.shell import ConnectionLostError, Shell, call, one_line


def test_a_command_that_takes_too_long_is_killed_with_its_children(tmp_path, monkeypatch):
    fifo, opened = tmp_path / "fifo", []
    os.mkfifo(fifo)

    def time_out(process, timeout):
        opened.append(fifo.open())  # waits until the child has opened it
        raise subprocess.TimeoutExpired("sh", timeout)

    monkeypatch.setattr(subprocess.Popen, "communicate", time_out)
    with pytest.raises(TimeoutError, match="no answer within 7 s"):
        Shell().run(f"(sleep 60; echo survived) > {fifo} & wait", timeout=7)
    with opened[0] as output:
        assert output.read() == ""  # waits until all writers are dead


def test_a_program_that_exceeds_its_time_limit_is_an_error():
    with pytest.raises(TimeoutError, match="no answer within 0.01 s"):
        call(["sleep", "60"], timeout=0.01)


def test_statuses_and_output_are_those_of_the_command():
    assert Shell().run("echo out; echo err >&2; exit 7") == (7, "out\nerr\n")
    assert Shell().check("echo fine") == "fine\n"
    with pytest.raises(BenchError, match="`echo no; false` failed with status 1: no"):
        Shell().check("echo no; false")
    with pytest.raises(ConnectionLostError, match="the connection broke: no answer"):
        Shell().run("kill -9 $$")


def test_long_output_is_shortened_to_its_end():
    assert one_line("a\n b") == "a b"
    assert one_line("x" * 400 + "end", most=5) == "...xxend"


def test_the_tool_runs_on_this_machine(models, tool, tmp_path):
    """Rows have the target host, and no files are copied."""
    models = models.rename(tmp_path / "my 'new' models; false")
    tool = shutil.copy(tool, tmp_path / "the tool; false")
    tool.chmod(0o755)
    quick = ["--rounds=1", "--runs=4", "--cooldown=0", "--warmup=1"]
    where = [f"--models={models}", f"--output_dir={tmp_path}", f"--benchmark_binary={tool}"]
    assert run.main(["--target=host", *where, *quick]) == 0
    rows = read_rows(tmp_path)
    assert {(row.origin.target, row.origin.machine, row.latency.median_ns) for row in rows} == {("host", "host", 1e6)}
    assert "not a phone" in (tmp_path / "report.md").read_text()
    assert not list((tmp_path / "logs").rglob("android_bench"))


def test_the_shell_of_this_machine_copies_files(tmp_path):
    (tmp_path / "a").write_bytes(b"model")
    Shell().push(tmp_path / "a", str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == b"model"
    with pytest.raises(BenchError, match="a could not be copied to .*gone"):
        Shell().push(tmp_path / "a", str(tmp_path / "gone" / "b"))

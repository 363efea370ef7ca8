"""The ssh target against a real sshd, and the benchmark tool on this machine."""

import pathlib
import shutil
import threading
import time

import pytest

from fd_keras.android_bench import run, ssh
from fd_keras.android_bench.plan import BenchError
from fd_keras.android_bench.results import read_rows, read_runs
from fd_keras.android_bench.shell import Gone, Shell

QUICK = ["--rounds=2", "--runs=4", "--cooldown=0", "--warmup=1", "--patience=20"]


def _flags(board, models, tool, out):
    where = ["--target=ssh", "--serial=root@127.0.0.1", f"--ssh={board.ssh}"]
    return [*where, f"--models={models}", f"--output_dir={out}", f"--benchmark_binary={tool}", *QUICK]


def test_a_plan_over_ssh_gives_the_same_rows(board, models, tool, tmp_path):
    assert run.main(_flags(board, models, tool, tmp_path)) == 0
    rows = read_rows(tmp_path)
    assert {(row.target, row.device, row.median_ns) for row in rows} == {("ssh", "root@127.0.0.1", 1e6)}
    assert len(rows) == 4
    (known,) = read_runs(tmp_path).values()
    assert known["environment"]["kind"] == "board"
    assert len(list((board.root / "tmp/android_bench").iterdir())) == 3
    assert run.main([*_flags(board, models, tool, tmp_path), "--clean_only"]) == 0
    assert not (board.root / "tmp/android_bench").exists()


def test_a_board_that_reboots_in_mid_plan_comes_back(board, models, tool, tmp_path, capsys):
    board.fake(sleep=0.3)

    def pull_the_plug():
        while not (tmp_path / "rows.jsonl").exists() or not (tmp_path / "rows.jsonl").read_bytes():
            time.sleep(0.02)
        board.switch_off()
        shutil.rmtree(board.root / "tmp/android_bench")  # as after a reboot
        time.sleep(1)
        board.switch_on()

    threading.Thread(target=pull_the_plug, daemon=True).start()
    assert run.main([*_flags(board, models, tool, tmp_path), "--rounds=3"]) == 0
    rows = read_rows(tmp_path)
    assert len(rows) == 6
    assert len({row.key for row in rows}) == 6


def test_statuses_are_the_boards_own(board):
    shell = ssh.Ssh("root@127.0.0.1", board.ssh)
    assert shell.run("echo out; echo err >&2; exit 255") == (255, "out\nerr\n")
    with pytest.raises(Gone):
        shell.run("kill -9 $PPID $$")


def test_a_board_that_lets_nobody_in_is_told(board):
    (board.root / "root/.ssh/authorized_keys").unlink()
    with pytest.raises(BenchError, match="Permission denied.*must work without a password first") as caught:
        ssh.Ssh("root@127.0.0.1", board.ssh).run("true")
    assert not isinstance(caught.value, Gone)


def test_a_host_is_needed(converted, capsys):
    assert run.main(["--target=ssh", f"--models={converted}", "--benchmark_binary=/bin/true"]) == 2
    assert "--serial=user@host is missing" in capsys.readouterr().err
    with pytest.raises(BenchError, match="a host is expected"):
        ssh.Ssh("-oProxyCommand=bad")


def test_what_takes_too_long_is_ended_with_what_it_started(tmp_path):
    with pytest.raises(TimeoutError, match="no answer within 0.5 s"):
        Shell().run(f"sleep 60 & echo $! > {tmp_path}/pid; wait", timeout=0.5)
    child = (tmp_path / "pid").read_text().strip()
    state = pathlib.Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_the_tool_on_this_machine(models, tool, tmp_path):
    """Its rows are the host's, whatever measured them. Nothing is copied: it reads our files in place."""
    models = models.rename(tmp_path / "my 'new' models; false")
    tool = shutil.copy(tool, tmp_path / "the tool; false")
    tool.chmod(0o755)
    where = [f"--models={models}", f"--output_dir={tmp_path}", f"--benchmark_binary={tool}"]
    assert run.main(["--target=host", *where, *QUICK]) == 0
    rows = read_rows(tmp_path)
    assert {(row.target, row.machine, row.median_ns) for row in rows} == {("host", "host", 1e6)}
    assert "not a phone" in (tmp_path / "report.md").read_text()
    assert not list((tmp_path / "logs").rglob("android_bench"))


def test_the_shell_of_this_machine_copies_files(tmp_path):
    (tmp_path / "a").write_bytes(b"model")
    Shell().push(tmp_path / "a", str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == b"model"
    with pytest.raises(BenchError, match="a could not be copied to .*gone"):
        Shell().push(tmp_path / "a", str(tmp_path / "gone" / "b"))

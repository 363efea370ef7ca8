"""The ssh client against a real sshd; see `conftest.Phone`."""

import shutil

import pytest

from fd_keras.android_bench import run, ssh
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.results import read_rows, read_runs
from fd_keras.android_bench.shell import ConnectionLostError


@pytest.fixture
def bench(board, models, tool, tmp_path):
    """A function that runs the program on the board with one model; returns its exit status."""
    where = ["--target=ssh", "--serial=root@127.0.0.1", f"--ssh={board.ssh}", f"--benchmark_binary={tool}"]
    what = [f"--models={models / 'mobilenet_0.5_int8.tflite'}", f"--output_dir={tmp_path}"]
    how = ["--rounds=2", "--runs=4", "--cooldown=0", "--warmup=1"]
    return lambda *others: run.main([*where, *what, *how, *others])


def test_a_plan_over_ssh_gives_the_same_rows(bench, board, tmp_path):
    assert bench() == 0
    rows = read_rows(tmp_path)
    assert {(row.origin.target, row.origin.device, row.latency.median_ns) for row in rows} == {
        ("ssh", "root@127.0.0.1", 1e6)
    }
    assert len(rows) == 2
    (known,) = read_runs(tmp_path).values()
    assert known["environment"]["kind"] == "board"
    assert len(list((board.root / "tmp/android_bench").iterdir())) == 2
    assert bench("--clean_only") == 0
    assert not (board.root / "tmp/android_bench").exists()


def test_a_board_that_reboots_during_the_plan_comes_back(bench, board, tmp_path, monkeypatch, capsys):
    reconnect = ssh.SshShell.reconnect

    def switch_off():
        board.switch_off()
        shutil.rmtree(board.root / "tmp/android_bench")  # as after a reboot

    def switch_on(shell, *others):
        board.switch_on()
        reconnect(shell, *others)

    monkeypatch.setattr(ssh.SshShell, "reconnect", switch_on)
    board.at_launch(1, switch_off)
    assert bench() == 0
    rows = read_rows(tmp_path)
    assert len(rows) == 2
    assert len({row.key for row in rows}) == 2
    assert "connection broke" in capsys.readouterr().err


def test_exit_statuses_come_from_the_board(board):
    shell = ssh.SshShell("root@127.0.0.1", board.ssh)
    assert shell.run("echo out; echo err >&2; exit 255") == (255, "out\nerr\n")
    with pytest.raises(ConnectionLostError):
        shell.run("kill -9 $PPID $$")


def test_a_board_that_denies_access_is_reported(board):
    (board.root / "root/.ssh/authorized_keys").unlink()
    with pytest.raises(BenchError, match="Permission denied.*work without a password first") as caught:
        ssh.SshShell("root@127.0.0.1", board.ssh).run("true")
    assert not isinstance(caught.value, ConnectionLostError)


def test_a_missing_host_is_reported(converted, capsys):
    assert run.main(["--target=ssh", f"--models={converted}", "--benchmark_binary=/bin/true"]) == 2
    assert "--serial=user@host is missing" in capsys.readouterr().err
    with pytest.raises(BenchError, match="not a host"):
        ssh.SshShell("-oProxyCommand=bad")

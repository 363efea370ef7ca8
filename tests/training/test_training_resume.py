"""A run that is killed again and again ends with the bits of one that was left alone."""

import csv
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from training import checkpoint

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 40  # 48 photos in batches of 6, 5 epochs


def _command(photos, run_dir, *program):
    return [
        sys.executable, *(program or ("-m", "training.train")),
        "--recipe=paper", "--model=fd_mobilenet", "--alpha=0.25",
        f"--data=folder:{photos}", "--image_size=64", "--batch_size=6", "--epochs=5", "--mixup=0.2", "--cutmix=1.0",
        "--ema_decay=0.9", "--dropout=0.1", "--threads=2", "--checkpoint_every=2", f"--run_dir={run_dir}",
    ]  # fmt: skip


def _start(command, log):
    with open(log, "w") as out:
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT)


def _newest(run_dir) -> int:
    names = [pathlib.Path(path).stem for path in checkpoint.saved(str(run_dir / "checkpoints"))]
    return int(names[-1].removeprefix("step_")) if names else 0


def _interrupt(command, run_dir, log, number) -> int:
    """Starts it, sends a signal a random moment after a checkpoint or two; returns the exit code."""
    process = _start(command, log)
    goal = _newest(run_dir) + random.choice((2, 4))
    deadline = time.monotonic() + 300
    while _newest(run_dir) < goal and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.3))
    process.send_signal(number)
    return process.wait(timeout=300)


def _columns(run_dir):
    """history.csv without what depends on the clock."""
    with open(run_dir / "history.csv") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("images_per_second", "input_bound", "seconds")} for row in rows]


def test_resumed_run_ends_at_the_same_bits(photos, tmp_path):
    whole, broken, log = tmp_path / "whole", tmp_path / "broken", tmp_path / "log"
    process = _start(_command(photos, whole), tmp_path / "whole.log")
    assert process.wait(timeout=600) == 0, (tmp_path / "whole.log").read_text()

    command = _command(photos, broken)
    dying = _start(
        _command(photos, broken, str(pathlib.Path(__file__).with_name("interrupted.py")), "training.train", "3"), log
    )
    assert dying.wait(timeout=300) == -signal.SIGKILL, log.read_text()
    assert [path for path in (broken / "checkpoints").iterdir() if path.name.startswith(".writing-")]
    assert _newest(broken) == 4

    for _ in range(2):
        assert _interrupt(command, broken, log, signal.SIGKILL) == -signal.SIGKILL, log.read_text()
    assert _newest(broken) < STEPS
    code = _interrupt(command, broken, log, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM, log.read_text()
    assert "the same command goes on from there" in log.read_text()
    last = _start(command, log)
    assert last.wait(timeout=600) == 0, log.read_text()
    assert "resumed at step" in log.read_text()

    (expected, told), (arrays, retold) = (
        checkpoint.read(checkpoint.saved(str(folder / "checkpoints"))[-1]) for folder in (whole, broken)
    )
    assert expected.keys() == arrays.keys()
    kinds = " ".join(expected)
    assert all(word in kinds for word in ("kernel", "moving_variance", "average_of", "momentum", "iteration"))
    assert [key for key in expected if expected[key].tobytes() != arrays[key].tobytes()] == []
    assert len(told["history"]) == len(retold["history"]) == 5
    assert _columns(whole) == _columns(broken)
    assert not [path for path in (broken / "checkpoints").iterdir() if path.name.startswith(".writing-")]

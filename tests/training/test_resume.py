"""A run that is killed again and again ends with the bits of one that was left alone."""

import random
import signal
import time

STEPS = 40  # 48 photos in batches of 6, 5 epochs


def _interrupt(program, run_dir, number) -> int:
    """Starts it, sends a signal a random moment after a checkpoint or two; returns the exit code."""
    process = program.start(run_dir)
    goal = program.newest(run_dir) + random.choice((2, 4))
    deadline = time.monotonic() + 300
    while program.newest(run_dir) < goal and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.3))
    process.send_signal(number)
    return process.wait(timeout=300)


def _unfinished(run_dir) -> list:
    return list((run_dir / "checkpoints").glob(".writing-*"))


def test_resumed_run_ends_at_the_same_bits(photos, program_of, tmp_path):
    program = program_of(
        "training.train", "--recipe=paper", "--model=fd_mobilenet", "--alpha=0.25", f"--data=folder:{photos}",
        "--image_size=64", "--batch_size=6", "--epochs=5", "--mixup=0.2", "--cutmix=1.0", "--ema_decay=0.9",
        "--dropout=0.1", "--threads=2", "--checkpoint_every=2",
    )  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    program.finish(whole)

    assert program.start(broken, dies_in=3).wait(timeout=300) == -signal.SIGKILL, program.log(broken)
    assert _unfinished(broken)
    assert program.newest(broken) == 4

    for _ in range(2):
        assert _interrupt(program, broken, signal.SIGKILL) == -signal.SIGKILL, program.log(broken)
    assert program.newest(broken) < STEPS
    assert _interrupt(program, broken, signal.SIGTERM) == 128 + signal.SIGTERM, program.log(broken)
    assert "the same command goes on from there" in program.log(broken)
    assert "resumed at step" in program.finish(broken)

    program.assert_equal(whole, broken, 5, "kernel", "moving_variance", "average_of", "momentum", "iteration")
    assert not _unfinished(broken)

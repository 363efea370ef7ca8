"""What all runs share: one that is interrupted ends at the bits of one that was left alone."""

import signal


def test_resumed_run_ends_at_the_same_bits(photos, program_of, tmp_path):
    """Steps: 48 photos in batches of 6, 3 epochs. Checkpoints: every other step."""
    program = program_of(
        "fd_keras.training.train", "--recipe=paper", "--model=fd_mobilenet", "--alpha=0.25", f"--data=folder:{photos}",
        "--image_size=64", "--batch_size=6", "--epochs=3", "--mixup=0.2", "--cutmix=1.0", "--ema_decay=0.9",
        "--dropout=0.1", "--threads=2", "--checkpoint_every=2",
    )  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    program.finish(whole)

    assert program.interrupt(broken, signal.SIGKILL, write=3) == -signal.SIGKILL, program.log(broken)
    assert list((broken / "checkpoints").glob(".writing-*"))
    assert program.newest(broken) == 4
    assert program.interrupt(broken, signal.SIGTERM, write=3) == 128 + signal.SIGTERM, program.log(broken)
    assert program.newest(broken) == 11  # the step after the one that it was sent at
    assert "saved step 11 of 24" in program.log(broken)
    assert "the same command resumes from there" in program.log(broken)
    assert "resumed at step 11 of 24" in program.finish(broken)

    program.assert_equal(whole, broken, 3, "kernel", "moving_variance", "average_of", "momentum", "iteration")
    assert not list((broken / "checkpoints").glob(".writing-*"))

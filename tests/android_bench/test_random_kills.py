"""A run that is repeatedly killed at random moments still measures each launch once.

pytest tests/android_bench/test_random_kills.py --reliability_seconds=3600
"""

import random
import subprocess
import sys
import time

from fd_keras.android_bench.results import read_rows, read_runs
from tests import needs

ROUNDS = 30


@needs.posix_signals
def test_kills_neither_lose_nor_duplicate_rows(converted, tmp_path, wait_until, reliability_seconds):
    rng, end = random.Random(0), time.monotonic() + reliability_seconds
    for number in range(1_000_000):
        out = tmp_path / str(number)
        _kill_and_continue(converted, out, rng, wait_until)
        if time.monotonic() > end:
            return


def _kill_and_continue(models, out, rng, wait_until):
    flags = ["--target=host", f"--models={models}", f"--output_dir={out}", f"--rounds={ROUNDS}"]
    command = [sys.executable, "-m", "android_bench.run", *flags, "--runs=1", "--min_secs=0"]
    rows, kills = out / "rows.jsonl", sorted(rng.sample(range(2 * ROUNDS + 1), 2))
    for kill in kills:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            wait_until(lambda: process.poll() is not None or _lines(rows) >= kill)  # noqa: B023  (called in this iteration)
            time.sleep(rng.random() / 100)
            process.kill()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept, runs = read_rows(out, damage := []), read_runs(out)
    assert len(kept) % (2 * ROUNDS) == 0, (kills, damage)  # twice as many if it ended before it was killed
    assert len({(row.run, row.key) for row in kept}) == len(kept), kills
    assert {run["state"] for run in runs.values()} == {"complete"}
    assert all((out / f"report.{suffix}").exists() for suffix in ("html", "md", "csv"))


def _lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else -1

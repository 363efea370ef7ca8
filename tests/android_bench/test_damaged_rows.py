"""Randomly damaged results and output of the benchmark tool give a report or an error message, never a crash.

pytest tests/android_bench/test_damaged_rows.py --reliability_seconds=3600
"""

import itertools
import json
import random
import re
import time
from pathlib import Path

import pytest

from fd_keras.android_bench import report
from fd_keras.android_bench.delegation import check_delegation
from fd_keras.android_bench.device_info import parse_state
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.parse import parse, strip
from fd_keras.android_bench.plan import DELEGATES
from fd_keras.android_bench.results import Results
from tests.damage import damage_bytes

FIXTURES = Path(__file__).parent.parent / "fixtures/benchmark_model"
MIN_TRIES = 150  # even on a slow machine
NUMBERS = (0, -1, 1, 1.5, 10**18, 10**30, 10**400, -(10**25), 1e308, float("nan"), float("inf"))
TEXTS = ("", "x", "=1+1", "\x1b[2J", "\x00", "\ud800", "<script>", "../../x", "é" * 300)
VALUES = (None, True, False, *NUMBERS, *TEXTS, [], [[]], {}, {"a": {"b": []}}, [1, "2", None])
STATE = """\
/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor=schedutil
/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq=1800000
/sys/devices/system/cpu/cpu0/cpufreq/stats/time_in_state=300000 5
/sys/class/thermal/thermal_zone0/type=cpu-0-0-usr
/sys/class/thermal/thermal_zone0/temp=41200
/proc/loadavg=1.50 1.0 0.9 1/99 4242
battery.level=15
thermal_status=2
processor_temp=40.5
low_power=1
"""
DELEGATION = """\
INFO: Created TensorFlow Lite delegate for GPU.
20 operations will run on the GPU, and the remaining 11 operations will run on the CPU.
VERBOSE: Replacing 20 out of 31 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 7 partitions.
INFO: Applied GPU delegate, and the model graph will be partially executed by the delegate w/ 3 delegate kernels.
"""


@pytest.fixture
def tries(reliability_seconds):
    """Random number generators, one per try, until the time is over."""

    def generate():
        end = time.monotonic() + reliability_seconds / 2  # two tests share it
        for number in itertools.count():
            if number >= MIN_TRIES and time.monotonic() > end:
                return
            yield random.Random(number)

    return generate()


def swap_lines(rng: random.Random, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(rng.choices(lines, k=len(lines)))


def change_numbers(rng: random.Random, content: bytes) -> bytes:
    places = list(re.finditer(rb"[0-9][0-9.e+]*", content))
    match = rng.choice(places)
    other = rng.choice(("9" * 400, "9" * 5000, "1e308", "1e999", "-1", "nan", "²", "0", ""))
    return content[: match.start()] + other.encode() + content[match.end() :]


def change_values(rng: random.Random, content: bytes) -> bytes:
    """Deletes, replaces or adds values in lines, at any depth."""
    lines = [json.loads(line) for line in content.splitlines()]
    for _ in range(rng.choice((1, 4))):
        place = rng.choice(lines)
        while isinstance(place, dict | list) and place:
            key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
            if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.3:
                if rng.random() < 0.25:
                    del place[key]
                else:
                    place[key] = rng.choice(VALUES)
                break
            place = place[key]
        if isinstance(place, dict) and rng.random() < 0.1:
            place["more"] = rng.choice(VALUES)
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@pytest.fixture
def small(tmp_path, make_row):
    """A folder of two runs with a few rows that use all keys."""
    kept = Results(tmp_path / "small")
    facts = {"arch": "fd_mobilenet", "alpha": 0.25, "size": [224, 224], "accuracy": {"top1": 45.0}, "macs": 12}
    state = {"temperature": 36.0, "sensor": "cpu", "battery": {"percent": 78}, "governor": {"0": "schedutil"}}
    more = {"before": state, "after": {**state, "busy_mhz": 1500.0}, "memory_mb": {"peak": 2.5}, "machine": "phone"}
    taken = {"delegate": "gpu", "delegation": {"ops": 3, "of": 4, "partitions": 2, "whole": False}}
    for run in ("one", "two"):
        common = {"run": run, "target": "adb", "device": run, "facts": facts, **more, **taken}
        for number in (1, 2):
            kept.append_row(make_row("fd_mobilenet_0.25", [1e6, 2e6], round=number, flags=["drifted +9%"], **common))
        kept.append_row(make_row("fd_mobilenet_0.25", [1], kind="profile", ops=[["CONV_2D", 0.5, "a"]], **common))
        environment = {"device": run, "kind": "phone", "engine": "e", "state": state, "pinned": {"big": [7]}}
        options = {"rounds": 2, "runs": 5, "min_secs": 1.0}
        kept.append_event(run=run, target="adb", device=run, environment=environment, options=options, load_before=1.0)
        kept.append_event(run=run, state="complete", failures=["a"], warnings=["b"])
    return kept.folder


def test_damaged_results_give_a_report_or_an_error(small, tries):
    whole = {name: (small / name).read_bytes() for name in ("rows.jsonl", "runs.jsonl")}
    reports = 0
    for rng in tries:
        for name, content in whole.items():
            damage = rng.choice((damage_bytes, damage_bytes, swap_lines, change_values, change_values))
            (small / name).write_bytes(damage(rng, content) if rng.random() < 0.8 else content)
        try:
            report.write(small)
            reports += 1
        except BenchError:
            pass
        for path in small.glob("report.*"):
            path.read_text(encoding="utf-8")
    assert reports > MIN_TRIES / 2


def test_damaged_output_of_the_tool_is_parsed_or_rejected(tries):
    texts = [path.read_bytes() for path in sorted(FIXTURES.glob("*.txt"))] + [STATE.encode(), DELEGATION.encode()]
    read = 0
    for rng in tries:
        for content in texts:
            damaged = rng.choice((damage_bytes, damage_bytes, swap_lines, change_numbers, change_numbers))(
                rng, content
            ).decode("utf-8", "replace")
            json.dumps(parse_state(damaged), allow_nan=False)
            lines = [strip(line) for line in damaged.splitlines()]
            try:
                check_delegation(lines, rng.choice(DELEGATES))
                json.dumps(vars(parse(damaged)), default=vars, allow_nan=False)
                read += 1
            except BenchError:
                pass
    assert read

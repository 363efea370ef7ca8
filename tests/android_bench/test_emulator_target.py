import json
import re
from pathlib import Path

import pytest

from fd_keras.android_bench import emulator_target, run
from fd_keras.android_bench.emulator_target import Emulator, EmulatorTarget, parse
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.models import find_models, read_models
from fd_keras.android_bench.plan import BenchPlan
from fd_keras.android_bench.results import read_rows, read_runs
from fd_keras.android_bench.schema import COUNTERS

MADE = Path(__file__).parent.parent.parent / emulator_target.FOLDER
COUNTS = {**dict.fromkeys(COUNTERS, 0), "instructions": 1000, "loads": 300, "stores": 50}
FOUND = {"counts": COUNTS, "invocations": 2, "unstable": [], "ops": []}


@pytest.fixture(scope="session")
def made():
    """The folder of the emulator."""
    if not (MADE / "versions.json").exists():
        pytest.skip("needs the emulator: make emulator")
    return Emulator.find(MADE)


@pytest.fixture
def fake(tmp_path):
    """An emulator whose qemu is a shell script; `fake(script)` replaces it."""
    folder = tmp_path / "emulator"
    (folder / "root/usr/bin").mkdir(parents=True)
    for part in ("qemu-aarch64", "counts.so", "packages", "root/usr/bin/python3.13"):
        (folder / part).touch()
    (folder / "versions.json").write_text('{"qemu": "10.0", "litert": "2.3"}')

    def replace(script):
        (folder / "qemu-aarch64").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "qemu-aarch64").chmod(0o755)
        return Emulator.find(folder)

    replace(f"echo 'a word of LiteRT'; echo '{json.dumps(FOUND)}'")
    return replace


def _plan(folder, **options):
    return BenchPlan(tuple(read_models(find_models(folder))[0]), **options)


def _bench(models, emulator, output, *flags):
    where = [f"--models={models}", "--target=emulator", f"--emulator={emulator.folder}", f"--output_dir={output}"]
    return run.main([*where, *flags])


def test_each_model_is_counted_once_on_each_core(converted, fake, tmp_path, capsys):
    assert _bench(converted, fake("echo '" + json.dumps(FOUND) + "'"), tmp_path / "out", "--rounds=5") == 0
    rows = read_rows(tmp_path / "out")
    assert sorted((row.origin.device, row.label) for row in rows) == [
        (core, label)
        for core in ("cortex-a53", "cortex-a76")
        for label in ("fd_mobilenet_0.25_float32", "mobilenet_0.5_int8")
    ]
    assert {(row.origin.target, row.origin.machine, row.kind, row.latency.runs) for row in rows} == {
        ("emulator", "core", "count", 2)
    }
    assert all(row.details.counts == COUNTS for row in rows)
    output = capsys.readouterr().out
    assert "counted, not timed" in output
    assert "LiteRT 2.3 on qemu 10.0" in output
    environments = [event["environment"] for event in read_runs(tmp_path / "out").values()]
    assert all(environment["caches"] and environment["source"] for environment in environments)


def test_an_interrupted_run_continues(converted, fake):
    emulator = fake("echo '" + json.dumps(FOUND) + "'")
    target = EmulatorTarget(_plan(converted), "cortex-a53", emulator)
    first, _ = target.measure()
    (second,) = EmulatorTarget(_plan(converted), "cortex-a53", emulator).measure(done=[first])
    assert second.label != first.label
    assert not list(EmulatorTarget(_plan(converted), "cortex-a53", emulator).measure(stop=lambda: True))


def test_ops_are_counted_only_for_a_profile(converted, fake):
    found = json.dumps({**FOUND, "ops": [["CONV_2D", "op 0", COUNTS]]})
    emulator = fake(f"case \"$*\" in *\"'ops'\"*) echo '{found}';; *) echo '{json.dumps(FOUND)}';; esac")
    for extras, kinds in (((), []), (("profile",), ["CONV_2D"])):
        row, _ = EmulatorTarget(_plan(converted, extras=extras), "cortex-a53", emulator).measure()
        assert [kind for kind, _, _ in row.details.counted_ops] == kinds


def test_a_failure_after_a_stop_is_not_reported_for_the_model(converted, fake):
    target = EmulatorTarget(_plan(converted), "cortex-a53", fake("kill -2 $$"))
    answers = iter([False, True])
    assert list(target.measure(stop=lambda: next(answers))) == []
    assert target.failures == []


def test_counts_that_did_not_stabilize_are_flagged(converted, fake):
    emulator = fake("echo '" + json.dumps({**FOUND, "unstable": ["loads"]}) + "'")
    row, _ = EmulatorTarget(_plan(converted), "cortex-a53", emulator).measure()
    assert row.flags == ["the count of loads did not stabilize"]


def test_a_model_with_more_instructions_fails_the_check(converted, fake, tmp_path, capsys):
    file, flags = tmp_path / "counts.json", ["--serial=cortex-a53", "--tolerance=2%"]
    emulator = fake("echo '" + json.dumps(FOUND) + "'")
    assert _bench(converted, emulator, tmp_path / "a", *flags, f"--baseline_file={file}", "--update_baseline") == 0
    assert _bench(converted, emulator, tmp_path / "b", *flags, f"--baseline_file={file}") == 0
    larger = fake("echo '" + json.dumps({**FOUND, "counts": {**COUNTS, "instructions": 1030}}) + "'")
    capsys.readouterr()
    assert _bench(converted, larger, tmp_path / "c", *flags, f"--baseline_file={file}") == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert all(re.search(r"instructions, 3\.0% more .*\(limit 2%\)", error) for error in errors)


def test_an_incomplete_run_does_not_update_the_baseline_file(converted, fake, tmp_path, capsys):
    file, emulator = tmp_path / "counts.json", fake("exit 3")
    counted = ["--serial=cortex-a53", f"--baseline_file={file}", "--update_baseline"]
    assert _bench(converted, emulator, tmp_path / "out", *counted) == 1
    assert not file.exists()
    script = f"case \"$*\" in *int8*) exit 3;; esac; echo '{json.dumps(FOUND)}'"
    assert _bench(converted, fake(script), tmp_path / "other", *counted) == 1
    assert not file.exists()
    assert "not written, because not all models were counted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (
            ["--target=host", "--baseline_file=counts.json"],
            "--baseline_file and --update_baseline need --target=emulator",
        ),
        (["--target=emulator", "--update_baseline"], "--update_baseline needs --baseline_file=PATH"),
    ],
)
def test_inconsistent_flags_of_the_check_are_rejected(tmp_path, capsys, flags, reason):
    assert run.main([f"--models={tmp_path}", f"--output_dir={tmp_path / 'out'}", *flags]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo broken >&2; echo worse >&2; exit 3", "failed with status 3: worse"),
        ("exit 3", "failed with status 3: "),
        ("kill -9 $$", "failed with status -9"),
        ("true", "did not print counts (missing keys"),
        ("echo '[]'", "did not print counts (it must be an object"),
        ("echo '{\"counts\": {}}'", "did not print counts (counts must be an object of instructions"),
    ],
)
def test_a_model_that_fails_in_the_emulator_is_named(converted, fake, script, reason):
    target = EmulatorTarget(_plan(converted / "mobilenet_0.5_int8.tflite"), "cortex-a53", fake(script))
    assert list(target.measure()) == []
    (failure,) = target.failures
    assert "mobilenet_0.5_int8.tflite" in failure
    assert reason in failure


def test_options_that_need_a_device_are_rejected(converted, fake):
    for flag, options in {
        "--threads=2": {"threads": (2,)},
        "--delegates=gpu": {"delegates": ("gpu",)},
        "--core=big": {"cores": ("big",)},
        "--memory": {"extras": ("memory",)},
    }.items():
        with pytest.raises(BenchError, match=flag):
            EmulatorTarget(_plan(converted, **options), "cortex-a53", fake("true"))


def test_a_folder_without_an_emulator_is_named(tmp_path, converted, capsys):
    assert run.main([f"--models={converted}", "--target=emulator", f"--emulator={tmp_path}", "--output_dir=x"]) == 2
    assert f"{tmp_path}: not a complete emulator folder; run `make emulator`" in capsys.readouterr().err
    (tmp_path / "versions.json").write_text("[]")
    with pytest.raises(BenchError, match="not a complete emulator folder"):
        Emulator.find(tmp_path)
    with pytest.raises(BenchError, match="the path contains a space, comma, colon or semicolon"):
        Emulator.find(tmp_path / "a b")


def test_warnings_before_the_counts_are_skipped():
    assert parse(f"INFO: Created delegate\n{json.dumps(FOUND)}\n", Path("a.tflite")) == FOUND


def test_real_counts_are_reproducible_and_add_up_over_the_ops(made, converted):
    model = converted / "mobilenet_0.5_int8.tflite"
    first, second = (made.count("cortex-a76", model, ops=True) for _ in range(2))
    assert first == second
    assert first["unstable"] == []
    assert [kind for kind, _, _ in first["ops"]] == ["Convolution (NHWC, QC8) IGEMM", "Mean (ND) Reduce"]
    counts, of_ops = first["counts"], {name: sum(op[2][name] for op in first["ops"]) for name in COUNTERS}
    assert 0 < of_ops["instructions"] < counts["instructions"]
    assert 0 < counts["stores"] < counts["loads"] < counts["instructions"]
    assert 0 < of_ops["dot"] == counts["dot"] <= counts["simd"] < counts["instructions"]
    assert counts["matmul"] == 0


def test_a_core_with_matrix_instructions_uses_them(made, converted):
    assert made.count("max", converted / "mobilenet_0.5_int8.tflite", ops=False)["counts"]["matmul"] > 0

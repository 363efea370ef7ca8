import pytest

from fd_keras.android_bench.cores import choose_cores, describe_cores, taskset_mask
from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.results import read_rows, read_runs


def _facts(*cores, taskset=True):
    cores = [{"number": n, "khz": khz, "capacity": capacity} for n, (khz, capacity) in enumerate(cores)]
    return {"name": "Phone 7", "cores": cores, "taskset": taskset, "abis": ["arm64-v8a"]}


FOUR_AND_FOUR = _facts(*[(1_800_000, 400)] * 4, *[(1_700_000, 1024)] * 4)  # big cores have the lower clock


@pytest.mark.parametrize(
    ("choice", "threads", "cores"),
    [("big", 1, [7]), ("big", 2, [6, 7]), ("little", 1, [0]), ("little", 2, [0, 1]), ("c0", 1, [6, 7]), ("any", 1, [])],
)
def test_cores_are_chosen_by_capacity_then_clock(choice, threads, cores):
    assert choose_cores(FOUR_AND_FOUR, choice, threads) == (cores, [])


FOUR_THREE_ONE = _facts(*[(1_785_600, 261)] * 4, *[(2_419_200, 871)] * 3, (2_841_600, 1024))


@pytest.mark.parametrize(
    ("facts", "choice", "threads", "cores", "words"),
    [
        (
            FOUR_THREE_ONE,
            "big",
            4,
            [4, 5, 6, 7],
            "do not fit on the 1 big core: pinned to the 4 fastest cores, 4, 5, 6, 7",
        ),
        (FOUR_THREE_ONE, "big", 2, [6, 7], "pinned to the 2 fastest cores, 6, 7"),
        (FOUR_THREE_ONE, "big", 5, [3, 4, 5, 6, 7], "pinned to the 5 fastest"),
        (FOUR_AND_FOUR, "big", 6, [2, 3, 4, 5, 6, 7], "do not fit on the 4 big cores"),
        (FOUR_AND_FOUR, "little", 5, [0, 1, 2, 3, 4], "pinned to the 5 slowest cores"),
        (FOUR_AND_FOUR, "c0", 4, [6, 7], "4 threads on 2 cores (--core=c0): threads wait for each other"),
    ],
)
def test_more_threads_than_cores_of_a_kind_are_reported(facts, choice, threads, cores, words):
    found, (warning,) = choose_cores(facts, choice, threads)
    assert found == cores
    assert words in warning


def test_more_threads_than_cores_are_reported():
    cores, warnings = choose_cores(FOUR_AND_FOUR, "big", 9)
    assert cores == list(range(8))
    assert "9 threads on 8 cores (--core=big): threads wait for each other" in warnings[1]


def test_cores_of_unknown_speed_are_reported():
    cores, (warning,) = choose_cores(_facts((None, None), (None, None)), "big", 1)
    assert cores == [1]
    assert "does not report how fast its cores are: --core=big takes the last one" in warning


def test_a_mask_with_missing_cores_is_rejected():
    with pytest.raises(BenchError, match="--core=100 includes core 8, but Phone 7 has cores 0, 1"):
        choose_cores(FOUR_AND_FOUR, "100", 1)


def test_cores_are_formatted_as_mask_and_text():
    assert taskset_mask([7]) == "80"
    assert taskset_mask([0, 1]) == "3"
    assert describe_cores(FOUR_AND_FOUR["cores"]) == "4 x 1.70 GHz + 4 x 1.80 GHz"


def test_big_and_little_cores_are_pinned_and_reported_separately(bench, phone, tmp_path):
    # Only cores 0 and 1 exist; core 1 is the big one.
    phone.set_cores()
    assert bench("--core=big,little") == 0
    rows = read_rows(tmp_path / "out")
    assert [cores for cores, _ in phone.calls()] == [{"big": "1", "little": "0"}[row.launch.job.core] for row in rows]
    assert {row.launch.job.core for row in rows} == {"big", "little"}
    (known,) = read_runs(tmp_path / "out").values()
    assert known["environment"]["clocks"] == "1 x 1.80 GHz + 1 x 2.40 GHz"
    assert rows[0].conditions.before["governor"] == {"0": "schedutil", "1": "schedutil"}


def test_a_mask_is_used_unchanged(bench, phone):
    phone.set_cores((1, 1))
    assert bench("--core=2") == 0
    assert {cores for cores, _ in phone.calls()} == {"1"}
    assert bench("--core=80") == 2


def test_without_cpufreq_and_taskset_threads_are_not_pinned(bench, phone, capsys):
    phone.write("/usr/local/bin/taskset", "")
    hidden = phone.root / "usr/bin/taskset"
    content, mode = hidden.read_bytes(), hidden.stat().st_mode
    hidden.unlink()
    (phone.root / "usr/local/bin/taskset").unlink()
    try:
        assert bench() == 0
        assert "no taskset: --core=big has no effect" in capsys.readouterr().err
        assert bench("--core=1") == 2
        assert "has no taskset" in capsys.readouterr().err
    finally:
        hidden.write_bytes(content)
        hidden.chmod(mode)

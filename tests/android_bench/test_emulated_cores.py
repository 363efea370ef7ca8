import pytest

from fd_keras.android_bench.emulated_cores import CORES, DEFAULT, Cache, CycleModel, choose
from fd_keras.android_bench.errors import BenchError


def test_cores_are_chosen_by_name():
    assert tuple(choose(())) == DEFAULT
    assert tuple(choose(("all",))) == tuple(CORES)
    assert choose(("cortex-a9",)) == {"cortex-a9": CORES["cortex-a9"]}
    with pytest.raises(BenchError, match="--serial=cortex-m4: not an emulated core; choose from cortex-a53, "):
        choose(("cortex-a53", "cortex-m4"))


@pytest.mark.parametrize("core", CORES.values(), ids=list(CORES))
def test_every_cache_has_a_source_and_a_whole_number_of_sets(core):
    assert core.source
    for cache in (core.l1, core.l2):
        assert cache.kib * 1024 % (cache.ways * cache.line) == 0
    assert core.l1.line == core.l2.line
    assert core.l1.kib < core.l2.kib


def test_caches_are_formatted_as_text_and_as_argument():
    assert str(Cache(32, 4)) == "32 KiB, 4 ways, lines of 64 bytes"
    assert Cache(32, 4).argument == "32768:4:64"


def test_time_is_that_of_the_busier_unit_plus_all_misses():
    timing = CycleModel(ghz=0.5, issue=2, simd=3, l2=10, memory_ns=100, source="a book")
    counts = {"instructions": 8_000_000, "simd": 1_000_000, "l1_misses": 0, "l2_misses": 0}
    assert timing.milliseconds(counts) == 8  # 4 million cycles
    assert timing.milliseconds({**counts, "simd": 2_000_000}) == 12
    assert timing.milliseconds({**counts, "l1_misses": 100_000, "l2_misses": 10_000}) == 8 + 2 + 1


def test_every_model_of_time_has_a_source():
    timings = {name: core.timing for name, core in CORES.items() if core.timing}
    assert list(timings) == ["cortex-a9"]
    assert all(timing.source for timing in timings.values())

import pytest

from fd_keras.android_bench.emulated_cores import CORES, DEFAULT, Cache, choose
from fd_keras.android_bench.errors import BenchError


def test_cores_are_chosen_by_name():
    assert tuple(choose(())) == DEFAULT
    assert tuple(choose(("all",))) == tuple(CORES)
    assert choose(("cortex-a9",)) == {"cortex-a9": CORES["cortex-a9"]}
    with pytest.raises(BenchError, match="--serial=cortex-m4: not an emulated core: choose from cortex-a53, "):
        choose(("cortex-a53", "cortex-m4"))


@pytest.mark.parametrize("core", CORES.values(), ids=list(CORES))
def test_every_cache_has_a_source_and_a_whole_number_of_sets(core):
    assert core.source
    for cache in (core.l1, core.l2):
        assert cache.kib * 1024 % (cache.ways * cache.line) == 0
    assert core.l1.line == core.l2.line
    assert core.l1.kib < core.l2.kib


def test_a_cache_in_words_and_as_an_argument():
    assert str(Cache(32, 4)) == "32 KiB, 4 ways, lines of 64 bytes"
    assert Cache(32, 4).argument == "32768:4:64"

"""The C model of the caches, compiled for this machine and compared with a Python model."""

import random
import subprocess
from collections import OrderedDict
from pathlib import Path

import pytest

from fd_keras import android_bench
from tests import needs

HEADER = Path(android_bench.__file__).resolve().parent / "emulator_cache.h"
PROGRAM = f"""
#include "{HEADER}"
int main(int argc, char **argv)
{{
    struct cache l1, l2;
    uint64_t l1_misses = 0, l2_misses = 0;
    unsigned long long address, bytes;
    if (argc != 3 || !cache_make(&l1, argv[1]) || !cache_make(&l2, argv[2]))
        return 2;
    while (scanf("%llu %llu", &address, &bytes) == 2)
        cache_access(&l1, &l2, address, bytes, &l1_misses, &l2_misses);
    printf("%llu %llu", (unsigned long long)l1_misses, (unsigned long long)l2_misses);
}}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = needs.program("gcc")
    folder = tmp_path_factory.mktemp("cache")
    (folder / "cache.c").write_text(PROGRAM)
    subprocess.run([compiler, "-Wall", "-Werror", "-O1", folder / "cache.c", "-o", folder / "cache"], check=True)
    return folder / "cache"


class Cache:
    """A set-associative cache with LRU replacement."""

    def __init__(self, size, ways, line):
        self.ways, self.line = ways, line
        self.sets = [OrderedDict() for _ in range(size // ways // line)]

    def misses(self, address):
        number = address // self.line
        lines = self.sets[number % len(self.sets)]
        missing = number not in lines
        lines[number] = True
        lines.move_to_end(number)
        if len(lines) > self.ways:
            lines.popitem(last=False)
        return missing


def expected(trace, l1, l2):
    counts = [0, 0]
    for address, size in trace:
        for line in range(address // l1.line, (address + size - 1) // l1.line + 1):
            if l1.misses(line * l1.line):
                counts[0] += 1
                counts[1] += l2.misses(line * l1.line)
    return counts


def counted(program, trace, l1, l2):
    text = "".join(f"{address} {size}\n" for address, size in trace)
    arguments = [":".join(map(str, sizes)) for sizes in (l1, l2)]
    return list(map(int, subprocess.check_output([program, *arguments], input=text, text=True).split()))


@pytest.mark.parametrize(
    ("l1", "l2"),
    [
        ((512, 4, 64), (4096, 16, 64)),
        ((256, 1, 32), (1024, 2, 32)),  # direct-mapped
        ((128, 2, 64), (384, 2, 64)),  # three sets
        ((32768, 4, 32), (1048576, 16, 32)),
    ],
)
def test_misses_of_random_accesses_equal_those_of_the_python_model(program, l1, l2):
    rng = random.Random(0)
    trace = [(rng.randrange(1 << rng.choice((9, 12, 40))), 1 << rng.randrange(5)) for _ in range(20_000)]
    assert counted(program, trace, l1, l2) == expected(trace, Cache(*l1), Cache(*l2))


def test_a_loop_over_more_than_the_cache_always_misses(program):
    l1, l2 = (256, 4, 64), (1024, 4, 64)
    for lines, misses in ((4, [4, 4]), (5, [50, 5])):
        trace = [(64 * line, 16) for line in range(lines)] * 10
        assert counted(program, trace, l1, l2) == misses


def test_an_access_across_two_lines_counts_for_both(program):
    assert counted(program, [(60, 8)], (256, 4, 64), (1024, 4, 64)) == [2, 2]


@pytest.mark.parametrize("text", ["", "x", "0:4:64", "32768:4", "32768:0:64", "32768:4:0", "100:4:64", "32768:4:64:1"])
def test_invalid_caches_are_rejected(program, text):
    assert subprocess.run([program, text, "1024:4:64"], input="", text=True).returncode == 2

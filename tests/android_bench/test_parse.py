import random
import re
from pathlib import Path

import pytest

from fd_keras.android_bench.errors import BenchError
from fd_keras.android_bench.parse import ToolOutputError, UnknownFlagError, known_flags, parse, strip

FIXTURES = Path(__file__).parent.parent / "fixtures/benchmark_model"

PLAIN = """\
STARTING!
Loaded model m.tflite
Initialized session in 17.187ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=5 first=3512391 curr=3512391 min=3512391 max=3512391 avg=3.51239e+06 std=0

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798

Inference timings in us: Init: 17187, First inference: 3512391, Warmup (avg): 3.51239e+06, Inference (avg): 2.95034e+06
Peak memory footprint (MB): init=4.92969 overall=138.809
"""
PERCENTILES = PLAIN.replace("std=109798", "std=109798 p5=2730000 median=2940000 p95=3100000")
BLOCK = """\
INFO: [./litert/tools/benchmark_litert_model.h:72]
========== BENCHMARK RESULTS ==========
INFO: [./litert/tools/benchmark_litert_model.h:73] Model initialization: 5.76 ms
INFO: [./litert/tools/benchmark_litert_model.h:75] Warmup (first):       2.12 ms
INFO: [./litert/tools/benchmark_litert_model.h:77] Warmup (avg):         0.95 ms (526 runs)
INFO: [./litert/tools/benchmark_litert_model.h:79] Inference (avg):      0.95 ms (1054 runs)
INFO: [./litert/tools/benchmark_litert_model.h:83] Inference (min):      0.91 ms
INFO: [./litert/tools/benchmark_litert_model.h:85] Inference (max):      1.10 ms
INFO: [./litert/tools/benchmark_litert_model.h:87] Inference (std):      0.02
INFO: [./litert/tools/benchmark_litert_model.h:103]
Memory Usage:
INFO: [./litert/tools/benchmark_litert_model.h:105] Init footprint:       4.06 MB
INFO: [./litert/tools/benchmark_litert_model.h:114] Peak memory usage not available. (peak_mem_mb <= 0)
"""
COUNTS = """\
INFO: count=526 first=2125 curr=969 min=910 max=2125 avg=949.861 std=68 p5=915 median=939 p95=990
INFO: count=1054 first=1015 curr=942 min=910 max=1102 avg=947.132 std=23 p5=915 median=942 p95=991
"""


def real(name):
    return (FIXTURES / name).read_text()


def test_output_of_the_classic_tool_is_parsed():
    got = parse(PLAIN)
    assert (got.generation, got.runs, got.mean_us, got.std_us) == ("classic", 50, 2950340, 109798)
    assert (got.min_us, got.max_us, got.median_us, got.p95_us) == (2727568, 3189954, None, None)
    assert (got.init_us, got.first_us) == (17187, 3512391)
    assert got.memory_mb == {"init": 4.92969, "overall": 138.809}


OLD = """\
STARTING!
Num threads: [2]
Graph: [/data/local/tmp/m.tflite]
Loaded model /data/local/tmp/m.tflite
resolved reporter
Initialized session in 8.1ms
Running benchmark for at least 4 iterations and at least 0.5 seconds
count=7 first=117425 curr=56709 min=56709 max=117425 avg=66605.9 std=20000

Running benchmark for at least 10 iterations and at least 1 seconds
count=15 first=56753 curr=56800 min=56699 max=56838 avg=56767.6 std=39

"""


@pytest.mark.parametrize(
    ("closing", "init"),
    [
        ("Average inference timings in us: Warmup: 66605.9, Init: 8101, no stats: 56767.6", 8101),  # 1.12 to 1.13
        ("Average inference timings in us: Warmup: 66605.9, Init: 8101, with stats: 56767.6", 8101),
        ("Average inference timings in us: Warmup: 66605.9, Init: 8101, Inference: 56767.6", 8101),  # 1.14 to 2.2
        ("Average inference timings in us: Warmup: 66605.9, no stats: 56767.6", None),
    ],
)
def test_output_of_builds_of_2019_is_parsed(closing, init):
    got = parse(f"{OLD}{closing}\n")
    assert (got.generation, got.runs, got.mean_us, got.min_us, got.max_us) == ("classic", 15, 56767.6, 56699, 56838)
    assert (got.init_us, got.first_us, got.median_us) == (init, 117425, None)


@pytest.mark.parametrize(
    "closing", ["Average inference timings in us: Warmup: 66605.9", "Average inference timings in us:"]
)
def test_incomplete_output_of_old_builds_is_rejected_with_advice(closing):
    with pytest.raises(ToolOutputError, match="is too old .* use --fetch_binary to download a current one"):
        parse(f"{OLD}{closing}\n")
    with pytest.raises(ToolOutputError, match="is too old"):
        parse(
            OLD.replace("count=7", "kount=7") + "Average inference timings in us: Warmup: 1, Init: 2, no stats: 56767.6"
        )


def test_median_and_p95_of_newer_builds_are_parsed():
    got = parse(PERCENTILES)
    assert (got.median_us, got.p95_us) == (2940000, 3100000)


@pytest.mark.parametrize(
    "prefix",
    ["INFO: ", "I tflite  : ", "I/tflite  ( 4242): ", "11-23 03:47:27.605  4242  4242 I tflite  : ", "VERBOSE: "],
)
def test_log_prefixes_are_ignored(prefix):
    logged = "".join(f"{prefix}{line}\r\n" for line in PERCENTILES.splitlines())
    assert parse(logged) == parse(PERCENTILES)


def test_litert_output_with_only_the_summary_block_is_parsed():
    got = parse(BLOCK)
    assert (got.generation, got.runs, got.mean_us, got.min_us, got.max_us) == ("litert", 1054, 950, 910, 1100)
    assert (got.std_us, got.median_us, got.init_us, got.first_us) == (20, None, 5760, 2120)
    assert got.memory_mb == {"init": 4.06}


def test_litert_output_with_a_count_line_has_full_precision():
    got = parse(COUNTS + BLOCK)
    assert (got.generation, got.mean_us, got.median_us, got.p95_us, got.init_us) == ("litert", 947.132, 942, 991, 5760)


def test_documented_litert_names_of_first_run_and_std_are_parsed():
    documented = BLOCK.replace("Warmup (first):      ", "First inference:").replace("0.02", "0.02 ms")
    assert parse(documented) == parse(BLOCK)


def test_real_output_of_the_classic_tool_is_parsed():
    got = parse(real("bm_214_x86_f32.txt"))
    assert (got.runs, got.mean_us, got.min_us, got.median_us) == (50, 58288.2, 27593, None)
    assert (got.init_us, got.first_us, got.memory_mb) == (603, 56991, {"init": 3.33594, "overall": 9.40234})
    peak = parse(real("bm_214_x86_int8_peakmem.txt"))
    assert peak.memory_mb == {"init": 3.3125, "overall": 5.12891, "peak": 12.0586}
    assert peak.runs == 100


def test_a_real_profile_is_parsed():
    ops = parse(real("bm_214_x86_int8_opprof.txt")).ops
    assert len(ops) == 31
    assert sum(op.ms for op in ops) == pytest.approx(187.44, abs=0.01)
    assert (ops[1].type, ops[1].ms, ops[1].name) == ("CONV_2D", 41.158, "functional_1/conv_0_relu_1/Relu")
    assert ops[-1].type == "SOFTMAX"


def test_a_profile_with_a_delegate_has_the_ops_inside_it():
    head = "\t[node type]\t  [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]\n"
    rule = "============================== Run Order ==============================\n"

    def row(kind, ms, calls, name):
        return f"\t    {kind}\t    0.000\t    1.0\t    {ms}\t 1%\t 1%\t     0.000\t        {calls}\t{name}\n"

    profile = (
        PLAIN + "Profiling Info for Benchmark Initialization:\n" + rule + head + row("AllocateTensors", 9, 1, "A/0")
    )
    profile += "\nOperator-wise Profiling Info for Regular Benchmark Runs:\n" + rule + head
    profile += row("TfLiteXNNPackDelegate", 3, 1, "x:7") + row("SOFTMAX", 1, 1, "[s]:8") + row("Unused", 0, 0, "u:9")
    profile += "\n3 nodes observed\n\nDelegate internal:\n" + rule + head
    profile += row("Convolution (NHWC, F32) IGEMM", 2, 1, "D/C:0") + "\n1 nodes observed\n"
    got = parse(profile).ops
    assert [(op.type, op.ms) for op in got] == [("SOFTMAX", 1), ("Convolution (NHWC, F32) IGEMM", 2)]


def test_a_truncated_profile_is_an_error():
    lines = real("bm_214_x86_int8_opprof.txt").splitlines(keepends=True)
    start = next(n for n, line in enumerate(lines) if "Regular Benchmark Runs" in line)
    end = next(n for n, line in enumerate(lines) if line.startswith("31 nodes observed"))
    for cut in range(start + 1, end):
        with pytest.raises(ToolOutputError, match="profile"):
            parse("".join(lines[:cut]))
    assert parse("".join(lines[:start])).ops == ()  # only the profile of the initialization is left


@pytest.mark.parametrize("name", ["bm_214_x86_f32.txt", "bm_214_x86_int8_opprof.txt", "litert_v2_benchmark_model.txt"])
def test_output_with_missing_parts_is_parsed_or_rejected(name):
    text, chance, refused = real(name), random.Random(0), 0
    for _ in range(300):
        start, size = chance.randrange(len(text)), chance.randrange(1, 200)
        try:
            parse(text[:start] + text[start + size :])
        except BenchError:
            refused += 1
    assert refused > 30


def test_a_single_run_has_no_statistics():
    got = parse(re.sub(r"WARN: Unconsumed.*\n", "", real("bm_214_unknownflag_count1.txt")))
    assert (got.runs, got.mean_us, got.min_us, got.max_us, got.std_us) == (1, 120066, 120066, 120066, 0)


def test_delegation_is_parsed():
    lines = (
        "VERBOSE: Replacing 30 out of 31 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 2 partitions.\n"
    )
    assert parse(lines + PLAIN).delegated == {"TfLiteXNNPackDelegate": (30, 31, 2)}


def test_logged_errors_are_ignored_if_there_are_results():
    assert parse("ERROR: Following operations are not supported by GPU delegate:\n" + PLAIN).runs == 50
    assert parse("Error in cpuinfo: failed to parse processor information from /proc/cpuinfo\n" + PLAIN).runs == 50


def test_an_ignored_flag_is_an_error():
    with pytest.raises(UnknownFlagError, match="does not know --bogus=1"):
        parse(real("bm_214_unknownflag_count1.txt"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not the complete output"),
        ("Segmentation fault", "not the complete output"),
        (real("bm_214_bad_model.txt"), "failed: The model is not a valid Flatbuffer"),
        (real("bm_214_missing_model.txt"), "Could not open '/data/local/tmp/nope.tflite'"),
        (real("bm_214_dry_run.txt"), r"count=0"),
        (PLAIN[: PLAIN.index("Inference timings")], "not the complete output"),
        (PLAIN.replace("Inference (avg): 2.95034e+06", "Inference (avg): 1"), "is inconsistent"),
        (PLAIN.replace("min=2727568", "min=9999999"), "not between min and max"),
        (PLAIN.replace(" std=109798", ""), "std is missing"),
        (PLAIN.replace("std=109798", "std=nan"), "'nan' instead of a number"),
        (PLAIN.replace("count=5 ", "kount=5 "), "printed 1 lines `count=`"),
        (PLAIN.replace(", Inference (avg): 2.95034e+06", ""), "is incomplete"),
        (BLOCK.replace("(min)", "(mun)"), "lacks some of avg, min"),
        (BLOCK.replace(" (1054 runs)", ""), "lacks some of avg, min"),
        (COUNTS + BLOCK.replace("(avg):      0.95 ms (1054", "(avg):      1.95 ms (1054"), "is inconsistent"),
    ],
)
def test_invalid_output_is_an_error(text, message):
    with pytest.raises(ToolOutputError, match=message):
        parse(text)


def test_every_prefix_of_an_output_is_an_error():
    lines = real("bm_214_x86_f32.txt").splitlines(keepends=True)
    end = next(number for number, line in enumerate(lines) if "Inference timings" in line)
    for cut in range(end):
        with pytest.raises(ToolOutputError):
            parse("".join(lines[:cut]))


def test_flags_are_parsed_from_the_usage():
    usage = (
        "usage: benchmark_model <flags>\nFlags:\n\t--num_runs=50\tint32\toptional\tnumber\n\t--use_gpu=false\tbool\n"
    )
    assert known_flags(usage) == {"num_runs", "use_gpu"}
    assert known_flags("sh: not found") == frozenset()


def test_log_prefixes_are_removed_but_not_other_brackets():
    assert strip("INFO: [a/b.h:7] Warmup: 1") == "Warmup: 1"
    assert strip("\t[node type]\t [x]") == "\t[node type]\t [x]"

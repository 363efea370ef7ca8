"""Parser for the output of both generations of the TFLite benchmark tool.

The classic tool (`tensorflow/lite/tools/benchmark`) ends with a line `Inference timings in us` (up to TensorFlow 2.2:
`Average inference timings in us`), the LiteRT tool (`litert/tools/benchmark_litert_model`) with a block `BENCHMARK
RESULTS` in ms. Unless silenced, both print one `count=` line of statistics for the warm-up and one for the measurement;
newer builds add p5, median and p95 to it. Unexpected output raises an error; numbers are never guessed.
"""

import itertools
import math
import re
from dataclasses import dataclass, field

from .errors import BenchError

_PREFIXES = (
    r"\d\d-\d\d [\d:.]+\s+\d+\s+\d+\s+",  # logcat -v threadtime
    r"[VDIWEF] [\w.]+\s*: ?",
    r"[VDIWEF]/[\w.]+\s*\(\s*\d+\): ?",  # logcat -v brief
    r"(?:INFO|WARN|WARNING|ERROR|VERBOSE): ?",
    r"\[[\w./-]+:\d+\] ?",
)
_PREFIX = re.compile(rf"(?P<words>(?:{'|'.join(_PREFIXES)})*)(?P<rest>.*)")
_ERROR = re.compile(r"\bERROR: |\bE [\w.]+\s*: |\bE/")
_COUNT = re.compile(r"count=(\d{1,12})((?: \w+=\S+)*)\s*")
_SUMMARY = re.compile(
    r"Inference timings in us: Init: (\S+), First inference: (\S+), Warmup \(avg\): (\S+), Inference \(avg\): (\S+)"
)
# TensorFlow 1.12 to 2.2: `with stats` and `no stats` indicate whether the profiler was on.
_OLD_SUMMARY = re.compile(
    r"Average inference timings in us: Warmup: (?P<warmup>[^\s,]+)(?:, Init: (?P<init>[^\s,]+))?"
    r"(?:, no stats: (?P<plain>[^\s,]+))?(?:, (?:with stats|Inference): (?P<mean>[^\s,]+))?"
)
_BLOCK = re.compile(r"(Model initialization|Warmup|Inference|First inference)(?: \((\w+)\))?: +(\S+)(?: ms)?(.*)")
_MEMORY = {
    "init": (r"emory footprint.*\(MB\): init=(\S+)", r"Init footprint: +(\S+) MB"),
    "overall": (r"emory footprint.*\(MB\): .*overall=(\S+)", r"Overall footprint: +(\S+) MB"),
    "peak": (r"Overall peak memory footprint \(MB\) via periodic monitoring: (\S+)", r"Peak memory: +(\S+) MB"),
}
_DELEGATED = re.compile(
    r"Replacing (\d{1,9}) out of (\d{1,9}) node\(s\) with delegate \((.*?)\) node, yielding (\d{1,9}) part"
)
_RUN_ORDER = re.compile(r"=+ Run Order =+")
_PROFILE = re.compile(r"(?:Operator-wise )?Profiling Info for (.+)")
_OBSERVED = re.compile(r"(\d+) nodes observed")  # last line of a graph's profile
_LARGEST = 1e12  # maximum of any number; microseconds in 11 days
_AGREES = 1e-4  # the summary rounds the mean to six digits


@dataclass(frozen=True)
class ProfiledOp:
    """One op in a profile: type, time per run in ms, and name of its output."""

    type: str
    ms: float
    name: str


@dataclass(frozen=True)
class ToolOutput:
    """The measurements of one launch; times are in microseconds, None if the tool does not print them.

    Attributes:
        generation: `classic` or `litert`.
        runs: Number of timed invocations.
        mean_us, std_us, min_us, max_us, median_us, p95_us: Statistics of their latency.
        init_us: Time to load and initialize the model.
        first_us: Latency of the very first invocation.
        memory_mb: `init` and `overall` growth, and `peak`, in MB, as far as printed.
        delegated: For each delegate: nodes taken, nodes of the model, and partitions.
        ops: The profile in execution order; empty unless requested.
    """

    generation: str
    runs: int
    mean_us: float
    std_us: float
    min_us: float
    max_us: float
    median_us: float | None
    p95_us: float | None
    init_us: float | None
    first_us: float | None
    memory_mb: dict[str, float] = field(default_factory=dict)
    delegated: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    ops: tuple[ProfiledOp, ...] = ()


class ToolOutputError(BenchError):
    """The output is not the complete output of a benchmark tool."""


class UnknownFlagError(BenchError):
    """The tool does not know a flag; it only warns, ignores the flag and exits with status 0."""


def parse(text: str) -> ToolOutput:
    """Parses the output of a launch.

    Raises:
        UnknownFlagError: If the tool ignored a flag.
        ToolOutputError: If the tool failed, or its output is incomplete, inconsistent or of another program.
    """
    lines = [strip(line) for line in text.splitlines()]
    check_flags(lines)
    statistics = _statistics(lines, [strip(line) for line in text.splitlines() if _ERROR.search(line)])
    if not statistics["runs"]:
        raise ToolOutputError("the benchmark tool did not time any run (count=0); was it a dry run?")
    return ToolOutput(
        **statistics,
        memory_mb=_memory(lines),
        delegated=_delegated(lines),
        ops=_ops(lines),
    )


def check_flags(lines: list[str]) -> None:
    """Raises UnknownFlagError if the tool reports ignored flags."""
    for line in lines:
        if "Unconsumed cmdline flags" in line:
            flags = line.partition("flags:")[2].strip()
            raise UnknownFlagError(
                f"this build of the benchmark tool does not know {flags}; use --fetch_binary to download a current one"
            )


def known_flags(usage: str) -> frozenset[str]:
    """Returns the names of the flags in the tool's `--help` text; empty if the text has another format."""
    return frozenset(re.findall(r"^\s*--(\w+)=", usage, re.MULTILINE))


def strip(line: str) -> str:
    """Removes the log prefix of a line."""
    match = _PREFIX.match(line.rstrip("\r"))
    return match["rest"] if match else line


def _statistics(lines: list[str], errors: list[str]) -> dict:
    """Parses the statistics; errors only matter without them, since delegates log ops left to the CPU as errors."""
    if any("Inference timings in us" in line for line in lines):
        return _classic(lines)
    if any("BENCHMARK RESULTS" in line for line in lines):
        return _litert(lines)
    if any("Average inference timings in us" in line for line in lines):
        return _old(lines)
    if errors:
        raise ToolOutputError(f"the benchmark tool failed: {' '.join(errors)}")
    raise ToolOutputError("not the complete output of a TFLite benchmark tool: its closing lines are missing")


def _delegated(lines: list[str]) -> dict[str, tuple[int, int, int]]:
    matches = filter(None, map(_DELEGATED.search, lines))
    return {match[3]: (int(match[1]), int(match[2]), int(match[4])) for match in matches}


def _classic(lines: list[str]) -> dict:
    counts = _counts(lines)
    if len(counts) != 2:
        raise ToolOutputError(
            f"the benchmark tool printed {len(counts)} lines `count=`, not one of warm-up and one of runs"
        )
    summary = next((match for match in map(_SUMMARY.match, lines) if match), None)
    if summary is None:
        raise ToolOutputError("the line `Inference timings in us` is incomplete")
    init, first, _, mean = map(_number, summary.groups())
    return {"generation": "classic", **_agreeing(counts[1], mean, _AGREES), "init_us": init, "first_us": first}


def _old(lines: list[str]) -> dict:
    """Parses the output of builds of 2019 and 2020; the very first invocation is the first one of the warm-up."""
    counts, summary = _counts(lines), next(filter(None, map(_OLD_SUMMARY.match, lines)), None)
    mean = summary and (summary["mean"] or summary["plain"])
    if len(counts) != 2 or summary is None or not mean:
        raise ToolOutputError(
            "this build of the benchmark tool is too old (TensorFlow 2.2 or earlier) to read its output; "
            "use --fetch_binary to download a current one"
        )
    first = counts[0].get("first", counts[0].get("curr"))
    common = {"generation": "classic", "init_us": _number(summary["init"]) if summary["init"] else None}
    return {**common, **_agreeing(counts[1], _number(mean), _AGREES), "first_us": first}


def _litert(lines: list[str]) -> dict:
    block = _block(lines)
    runs = re.search(r"\((\d{1,12}) runs\)", block.get(("Inference", "avg"), (0, ""))[1])
    if runs is None or not all(("Inference", key) in block for key in ("min", "max", "std")):
        raise ToolOutputError("the block BENCHMARK RESULTS lacks some of avg, min, max, std and runs")
    mean, low, high, std = (1e3 * block["Inference", key][0] for key in ("avg", "min", "max", "std"))
    first = block.get(("Warmup", "first")) or block.get(("First inference", None))
    common = {
        "generation": "litert",
        "init_us": _thousandfold(block.get(("Model initialization", None))),
        "first_us": _thousandfold(first),
    }
    counts = _counts(lines)
    if len(counts) == 2:  # full precision; the block is rounded to 10 microseconds
        return common | _agreeing(counts[1], mean, 6 / mean if mean else 1)
    statistics = {"mean_us": mean, "std_us": std, "min_us": low, "max_us": high}
    return common | {"runs": int(runs[1]), **statistics, "median_us": None, "p95_us": None}


def _block(lines: list[str]) -> dict[tuple[str, str | None], tuple[float, str]]:
    """Returns the number and the rest of each line of the block, by title and word in parentheses."""
    matches = filter(None, map(_BLOCK.match, lines))
    return {(match[1], match[2]): (_number(match[3]), match[4]) for match in matches}


def _thousandfold(entry: tuple[float, str] | None) -> float | None:
    return entry and 1e3 * entry[0]


def _counts(lines: list[str]) -> list[dict[str, float]]:
    """Returns the statistics of the `count=` lines, in order; a line for a single run only has that run's time."""
    found = []
    for match in map(_COUNT.fullmatch, lines):
        if match:
            pairs = dict(re.findall(r"(\w+)=(\S+)", match[2]))
            found.append({"runs": int(match[1]), **{name: _number(value) for name, value in pairs.items()}})
    return found


def _agreeing(count: dict[str, float], mean_us: float, tolerance: float) -> dict:
    """Returns a `count=` line's statistics; raises ToolOutputError unless its mean agrees with the closing lines."""
    runs = count["runs"]
    if runs <= 1:  # for a single run, the tool only prints `curr`
        only = count.get("curr", mean_us)
        count = {"avg": only, "min": only, "max": only, "std": 0.0, **count}
    missing = [name for name in ("avg", "std", "min", "max") if name not in count]
    if missing:
        raise ToolOutputError(f"the line `count={runs}` is incomplete: {', '.join(missing)} is missing")
    if not math.isclose(count["avg"], mean_us, rel_tol=tolerance):
        raise ToolOutputError(
            f"the benchmark tool's output is inconsistent: it prints two means, {count['avg']} us and {mean_us} us"
        )
    if not count["min"] <= count["avg"] * (1 + _AGREES) or not count["avg"] <= count["max"] * (1 + _AGREES):
        raise ToolOutputError(f"the line `count={runs}` is inconsistent: its mean is not between min and max")
    return {
        "runs": runs,
        **{f"{name}_us": count[key] for name, key in {"mean": "avg", "std": "std", "min": "min", "max": "max"}.items()},
        **{f"{name}_us": count.get(name) for name in ("median", "p95")},
    }


def _memory(lines: list[str]) -> dict[str, float]:
    found = {}
    for name, patterns in _MEMORY.items():
        for line in lines:
            for pattern in patterns:
                if match := re.search(pattern, line):
                    found[name] = _number(match[1])
    return found


def _ops(lines: list[str]) -> tuple[ProfiledOp, ...]:
    """Returns the profile of the runs: the graph's ops, where a delegate's node is replaced by the ops inside it."""
    start = _profile_start(lines)
    if start is None:
        return ()
    tables = [_table(lines[n + 1 :]) for n in range(start, len(lines)) if _RUN_ORDER.match(lines[n])]
    if not tables and _PROFILE.match(lines[start]):
        raise ToolOutputError("the profile is incomplete: the table below its title is missing")
    return _merged(tables)


def _profile_start(lines: list[str]) -> int | None:
    """Returns the line on which the profile of the runs begins; None if only initialization was profiled."""
    titles = {number: match[1] for number, line in enumerate(lines) if (match := _PROFILE.match(line))}
    starts = [number for number, title in titles.items() if "Initialization" not in title]
    if not titles:
        return 0 if lines else None
    return max(starts, default=None)


def _merged(tables: list[list[ProfiledOp]]) -> tuple[ProfiledOp, ...]:
    """Merges the graph's table with its delegates' tables."""
    if not tables:
        return ()
    graph, *inside = tables
    if inside:
        graph = [op for op in graph if "Delegate" not in op.type]
    return tuple(graph + [op for table in inside for op in table])


def _table(lines: list[str]) -> list[ProfiledOp]:
    """Parses the rows of a profiler's table, by the column names in its header."""
    head, *rows = [[cell.strip() for cell in line.split("\t") if cell.strip()] for line in lines] or [[]]
    heads = [cell.strip("[]") for cell in head]
    if not {"node type", "avg ms", "Name"} <= set(heads):
        raise ToolOutputError("the header of the profile's table lacks node type, avg ms or Name")
    rows = list(itertools.takewhile(lambda cells: len(cells) == len(heads), rows))
    nodes = next((match[1] for match in map(_OBSERVED.match, lines) if match), "an unknown number of")
    if nodes != str(len(rows)):
        raise ToolOutputError(f"the profile is incomplete: {len(rows)} rows of {nodes} nodes")
    named = [dict(zip(heads, cells, strict=True)) for cells in rows]
    called = [row for row in named if _number(row.get("times called", "1"))]
    return [ProfiledOp(row["node type"], _number(row["avg ms"]), _output(row["Name"])) for row in called]


def _output(name: str) -> str:
    """Returns the first of the names of fused layers, such as `a` in `[a;b;c]:7`."""
    return name.rpartition(":")[0].strip("[]").partition(";")[0] or name


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST:  # also rejects NaN
        raise ToolOutputError(f"the benchmark tool printed {text!r} instead of a number")
    return value

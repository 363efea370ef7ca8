"""The summary of a run as aligned text for a terminal, and as Markdown."""

import os
from collections.abc import Sequence
from typing import Any

from .count_summary import millions
from .energy import NOTES as ENERGY_NOTES
from .escaping import markdown, printable
from .summary import is_partial

WIDTH = 100  # columns of a terminal
_GAP = "  "
_NAMES = ("model", "recipe", "core", "delegate")
_WORDS = (*_NAMES, "kernels")  # left-aligned columns; numbers are right-aligned
_RECIPE_WIDTH = 20
_MIN_NAME_WIDTH = 12  # minimum, even if the table gets wider than WIDTH


def text_table(summary: Sequence[dict[str, Any]]) -> str:
    """Formats the summary as lines of at most `WIDTH` columns; long names are shortened in the middle."""
    return _aligned_text(*_columns(summary))


def counts_text(summary: Sequence[dict[str, Any]]) -> str:
    """Formats the summary of counts for a terminal; see `count_summary.summarize_counts`."""
    return _aligned_text(*count_columns(summary))


def sustained_text(summary: Sequence[dict[str, Any]]) -> str:
    """Formats the summary of sustained runs for a terminal; see `sustained.summarize_sustained`."""
    return _aligned_text(*sustained_columns(summary))


def _aligned_text(heads: list[str], lines: Sequence[list[str]]) -> str:
    lines = [heads, *([line[0], _shorten(line[1], _RECIPE_WIDTH), *line[2:]] for line in lines)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    widths[0] = min(widths[0], max(_MIN_NAME_WIDTH, WIDTH - sum(widths[1:]) - len(_GAP) * (len(widths) - 1)))
    return "\n".join(_GAP.join(_aligned(heads, line, widths)).rstrip() for line in lines)


def markdown_table(heads: Sequence[str], lines: Sequence[Sequence[str]], words: int = 1) -> str:
    """Returns a Markdown table whose first `words` columns are left-aligned; cells must be escaped already."""
    rule = ["---"] * words + ["---:"] * (len(heads) - words)
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *lines))


def summary_markdown(summary: Sequence[dict[str, Any]]) -> str:
    """Returns the summary as a Markdown table."""
    return _escaped_markdown(*_columns(summary))


def counts_markdown(summary: Sequence[dict[str, Any]]) -> str:
    """Returns the summary of counts as a Markdown table."""
    return _escaped_markdown(*count_columns(summary))


def sustained_markdown(summary: Sequence[dict[str, Any]]) -> str:
    """Returns the summary of sustained runs as a Markdown table."""
    return _escaped_markdown(*sustained_columns(summary))


def _escaped_markdown(heads: list[str], lines: Sequence[list[str]]) -> str:
    lines = [
        [markdown(cell) if head in _WORDS else cell for head, cell in zip(heads, line, strict=True)] for line in lines
    ]
    return markdown_table(heads, lines, words=sum(head in _WORDS for head in heads))


def final_report(runs: Sequence[dict[str, Any]], folder: os.PathLike[str]) -> str:
    """Returns the final output of a run: a table for each device, and the folder of results.

    Args:
        runs: See `session.measure_all`.
        folder: The folder of results.
    """
    parts = []
    for run in runs:
        state = [] if run["state"] == "complete" else [run["state"]]
        if run["models"]:
            parts.append("\n".join([text_table(run["models"]), "", *state, *footnotes(run)]))
        elif run["sustained"]:
            parts.append("\n".join([sustained_text(run["sustained"]), "", *state, *sustained_footnotes(run)]))
        elif run["counts"]:
            parts.append("\n".join([counts_text(run["counts"]), "", *state, *count_footnotes(run)]))
        else:
            parts.append(f"{printable(run['device'])}: {run['state']}: nothing to summarize")
    return "\n\n".join(parts) + f"\nrows and report.html: {os.fspath(folder)}"


def footnotes(run: dict[str, Any]) -> list[str]:
    """Returns the lines below a table: the meaning of the columns, the device and the engine."""
    environment, marked = run["environment"], any(line["doubtful"] for line in run["models"])
    taken = any(line["ops_taken"] for line in run["models"])
    return [
        "ms: median over the rounds of each round's median (or min, if the tool prints no median);",
        *energy_notes(run["models"]),
        "spread: (max - min) / median of the rounds" + ("; *: unreliable, see the warnings" if marked else ""),
        *(["ops: taken by the delegate, of all ops; parts: into which delegation splits the graph"] if taken else []),
        f"ratio: time / time of {run['baseline']} in the same round; median over the rounds",
        _measured_by(environment),
    ]


def sustained_footnotes(run: dict[str, Any]) -> list[str]:
    """Returns the lines below a table of sustained runs."""
    line = run["sustained"][0]
    first, last = duration(line["first"]["secs"]), duration(line["last"]["secs"])
    return [
        f"first, last: the first {first} and the last {last} of {duration(60 * line['minutes'])}; medians of launches",
        f"ratio: last ms / last ms of {run['baseline']}; at first: the same for the first {first}",
        *energy_notes(run["sustained"]),
        "MHz, °C, battery: first → last; -: not reported by the device",
        _measured_by(run["environment"]),
    ]


def _measured_by(environment: dict[str, Any]) -> str:
    cores = f", {environment['cores']} cores" if environment["cores"] else ""
    return printable(f"{environment['kind']}: {environment['device']}{cores}, {environment['engine']}")


def duration(seconds: float) -> str:
    """Formats a duration in seconds or minutes."""
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds / 60:.3g} min"


def count_footnotes(run: dict[str, Any]) -> list[str]:
    """Returns the lines below a table of counts."""
    estimated = any(line["estimated_ms"] is not None for line in run["counts"])
    return [
        "counted, not timed: millions per inference; loads and stores: accesses of up to 16 bytes;",
        "L1 and L2 miss: cache lines missing in a model of the data caches",
        f"ratio: instructions / instructions of {run['baseline']}",
        *(["est. ms: an estimate, not a measurement; see docs/emulator.md"] if estimated else []),
        *(
            ["*: counts that did not stabilize, see the warnings"]
            if any(line["doubtful"] for line in run["counts"])
            else []
        ),
        printable(f"{run['environment']['device']}, {run['environment']['engine']}"),
    ]


def count_columns(summary: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns headers and cells of a table of counts; the first three columns are text."""
    counters = {"M instr.": "instructions", "SIMD": "simd", "loads": "loads", "stores": "stores"}
    counters |= {"L1 miss": "l1_misses", "L2 miss": "l2_misses"}
    estimated = any(line["estimated_ms"] is not None for line in summary)
    cells = [
        {
            **{head: printable(line[head]) or "-" for head in ("model", "recipe", "kernels")},
            **{head: millions(line["counts"][counter]) for head, counter in counters.items()},
            "ratio": _or_dash(line["ratio"], ".2f") + "*" * line["doubtful"],
            **({"est. ms": _or_dash(line["estimated_ms"], ".1f")} if estimated else {}),
        }
        for line in summary
    ]
    return list(cells[0]), [list(line.values()) for line in cells]


def sustained_columns(summary: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns headers and cells of a table of sustained runs."""
    needless = {name for name in ("core", "delegate") if len({line[name] for line in summary}) == 1}
    cells = [
        {
            **{head: printable(line[head]) or "-" for head in _NAMES if head not in needless},
            "threads": str(line["threads"]),
            **{f"{window} ms": f"{line[window]['ms']:.3f}" for window in ("first", "last")},
            "last/first": _or_dash(line["slowdown"], ".2f"),
            "ratio": _or_dash(line["ratio_last"], ".2f"),
            "at first": _or_dash(line["ratio_first"], ".2f"),
            "MHz": _change(line, "mhz", ".0f"),
            "°C": _change(line, "temperature", ".0f"),
            "battery": _change(line, "battery", ".0f", "%"),
            **({"mJ": energy_text(line)} if any(other["energy"] for other in summary) else {}),
        }
        for line in summary
    ]
    return list(cells[0]), [list(line.values()) for line in cells]


def energy_text(line: dict[str, Any]) -> str:
    """Formats the energy of an inference in mJ with its uncertainty."""
    energy = line["energy"]
    return f"{energy['mj']:.3g} ±{energy['pm_mj']:.2g}" if energy else "-"


def energy_notes(summary: Sequence[dict[str, Any]]) -> list[str]:
    """Returns lines that explain how energy was measured; none if it was not."""
    found = [line["energy"]["how"] for line in summary if line["energy"]]
    return [*ENERGY_NOTES, printable(f"read of {found[0]}")] if found else []


def _change(line: dict[str, Any], name: str, form: str, unit: str = "") -> str:
    """Formats the change of a value from the first to the last window of a sustained run."""
    values = dict.fromkeys(_or_dash(line[window][name], form, unit) for window in ("first", "last"))
    return "→".join(values)


def _columns(summary: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns headers and cells, without columns that are unknown or the same in all lines."""
    needless = {name for name in ("core", "delegate") if len({line[name] for line in summary}) == 1}
    needless |= set() if any(line["ops_taken"] for line in summary) else {"ops"}
    needless |= set() if any(_parts(line) for line in summary) else {"parts"}
    needless |= set() if any("peak" in line["memory_mb"] for line in summary) else {"peak MB"}
    needless |= set() if any(line["energy"] for line in summary) else {"mJ"}
    cells = [_cells(line) for line in summary]
    heads = [head for head in cells[0] if head not in needless]
    return heads, [[line[head] for head in heads] for line in cells]


def _cells(line: dict[str, Any]) -> dict[str, str]:
    return {
        **{head: printable(line[head]) or "-" for head in _NAMES},
        "threads": str(line["threads"]),
        "ops": line["ops_taken"] or "-",
        "parts": _parts(line) or "-",
        "ms": f"{line['ms']:.3f}" + ("*" if line["doubtful"] else ""),
        "min": f"{line['min_ms']:.3f}",
        "p95": _or_dash(line["p95_ms"], ".3f"),
        "spread": _or_dash(line["spread_pct"], ".1f", "%"),
        "ratio": _or_dash(line["ratio"], ".2f"),
        "mJ": energy_text(line),
        "peak MB": _or_dash(line["memory_mb"].get("peak"), ".1f"),
        "size kB": f"{line['size_bytes'] / 1000:.1f}",
    }


def _parts(line: dict[str, Any]) -> str:
    """Returns the number of parts into which partial delegation splits the graph."""
    taken = line["delegation"]
    return str(taken.get("partitions") or taken.get("kernels") or "") if is_partial(line) else ""


def _or_dash(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"


def _aligned(heads: Sequence[str], line: Sequence[str], widths: Sequence[int]) -> list[str]:
    cells = zip(heads, line, widths, strict=True)
    return [_shorten(cell, width).ljust(width) if head in _WORDS else cell.rjust(width) for head, cell, width in cells]


def _shorten(word: str, width: int) -> str:
    """Shortens a word in the middle, since names of one family differ at their ends."""
    if len(word) <= width:
        return word
    tail = (width - 2) // 2
    return f"{word[: width - 2 - tail]}..{word[len(word) - tail :]}"

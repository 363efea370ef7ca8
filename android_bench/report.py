"""Writes what a folder of results says as a page, Markdown and CSV: `python -m android_bench.report FOLDER`."""

import argparse
import csv
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from . import page, paper
from .plan import ANY_CORE, BenchError
from .results import Results, read_rows, read_runs
from .rows import Row, doubts, final, paired_ratio, summarise
from .run_progress import tell
from .terminal_table import markdown_table, summary_markdown

KINDS = {
    "phone": "phone",
    "board": "board or other Linux machine: not a phone",
    "host": "this machine: not a phone",
    "emulator": "emulated: these times mean nothing for a phone",
}


@dataclass(frozen=True)
class Table4Cell:
    """What one network took, in one recipe: headline in ms, and ratio to FD-MobileNet; None if not measured."""

    ms: float | None = None
    ratio: float | None = None
    doubtful: bool = False


@dataclass(frozen=True)
class Table4Line:
    """A network of Table 4: the paper's ratio to FD-MobileNet, and one cell per recipe."""

    arch: str
    alpha: float
    paper_ratio: float | None
    cells: dict[str, Table4Cell]

    @property
    def name(self) -> str:
        """Name for people."""
        return f"{paper.TITLES[self.arch]} {self.alpha:g}x"


@dataclass(frozen=True)
class Table4:
    """Table 4 of one configuration: lines by budget in MFLOPs."""

    recipes: tuple[str, ...]
    budgets: dict[int, list[Table4Line]]


@dataclass(frozen=True)
class DeviceConfig:
    """All of a device that ran in one way.

    Attributes:
        threads, delegate, core: See `plan.Job`.
        summary: See `rows.summarise`.
        table4: None if no network of it was measured.
        profiles: For each model, its ops as (type, ms, name).
    """

    threads: int
    delegate: str
    core: str
    summary: list[dict[str, Any]]
    table4: Table4 | None
    profiles: dict[str, Sequence[Sequence[Any]]]

    @property
    def title(self) -> str:
        """How it ran, in words."""
        core = "" if self.core == ANY_CORE else f", {self.core} core" + "s" * (self.threads > 1)
        delegate = {"xnnpack": "XNNPACK", "none": "TFLite's own kernels", "gpu": "GPU", "nnapi": "NNAPI"}
        return f"{self.threads} thread{'s' * (self.threads > 1)}{core}, {delegate[self.delegate]}"


@dataclass(frozen=True)
class Device:
    """The latest run on a device.

    Attributes:
        name: For people.
        kind: A key of `KINDS`.
        run: What is known of it; see `bench._Run`.
        configs: By threads, delegate and core.
        last_state: The state after the last launch.
        warnings: Why its numbers may not be trusted.
    """

    name: str
    kind: str
    run: dict[str, Any]
    configs: list[DeviceConfig]
    last_state: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read(folder: Path) -> list[Device]:
    """Reads the latest run of each device in a folder, phones first.

    Raises:
        BenchError: If the folder holds no rows.
    """
    runs, latest = read_runs(folder), {}
    for row in read_rows(folder):
        latest.setdefault((row.target, row.device), {}).setdefault(row.run, []).append(row)
    if not latest:
        raise BenchError(f"{folder}: no rows here: time some models into this folder first")
    devices = []
    for by_run in latest.values():
        name, rows = list(by_run.items())[-1]
        devices.append(_device(runs.get(name, {"run": name}), rows))
    return sorted(devices, key=lambda device: list(KINDS).index(device.kind))


def write(folder: Path) -> list[Path]:
    """Writes report.html, report.md and report.csv into a folder of results.

    Raises:
        BenchError: If it holds no rows, or cannot be written.
    """
    devices, results = read(folder), Results(folder)
    texts = {"report.html": page.html(devices), "report.md": markdown(devices), "report.csv": comma_separated(devices)}
    for name, text in texts.items():
        results.replace(name, text)
    return [results.folder / name for name in texts]


def table4(rows: Sequence[Row]) -> Table4 | None:
    """Arranges the rows of one configuration as the paper's Table 4; None if it holds none of its networks.

    The table is of images of 224 x 224. Where several files are one network of it, that which bears its name counts.
    """
    groups: dict[tuple, list[Row]] = {}
    files = _files(rows)
    for arch, alpha, recipe, label in sorted(files, key=lambda key: (not key[-1].startswith(key[0]), key[-1])):
        groups.setdefault((arch, alpha, recipe), files[arch, alpha, recipe, label])
    recipes = tuple(sorted({recipe for _, _, recipe in groups}))
    budgets = {}
    for budget in paper.TABLE4:
        lines = []
        for arch, alpha in budget.alphas.items():
            base = (paper.BASE, budget.alphas[paper.BASE])
            cells = {r: _cell(groups.get((arch, alpha, r)), groups.get((*base, r), [])) for r in recipes}
            if any(cell.ms for cell in cells.values()):
                lines.append(Table4Line(arch, alpha, 1.0 if arch == paper.BASE else budget.ratios.get(arch), cells))
        if lines:
            budgets[budget.mflops] = lines
    return Table4(recipes, budgets) if budgets else None


def pareto(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the (ms, accuracy) points that no other beats in both, by rising ms."""
    front: list[tuple[float, float]] = []
    for ms, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((ms, accuracy))
    return front


def markdown(devices: Sequence[Device]) -> str:
    """Returns the report as Markdown."""
    parts = ["# Latency of .tflite models"]
    for device in devices:
        environment = device.run.get("environment", {})
        parts.append(f"## {escape(device.name, quote=False)} ({KINDS[device.kind]})")
        parts.append(f"Run {device.run['run']}: {device.run.get('state', 'unknown')}. {environment.get('engine', '')}")
        parts += (
            ["\n".join(f"- warning: {escape(warning, quote=False)}" for warning in device.warnings)]
            if device.warnings
            else []
        )
        for config in device.configs:
            parts.append(f"### {config.title}")
            if config.table4:
                parts += [_table4_markdown(config.table4), TABLE4_NOTE]
            parts.append(summary_markdown(config.summary))
    return "\n\n".join(parts) + "\n"


TABLE4_NOTE = (
    "Ratios are the network's time by FD-MobileNet's at the same budget. \"paper\" is Table 4 of arXiv 1802.03750, one "
    "800 MHz ARM core; its milliseconds are not quoted here. FD-ShuffleNet is not in it."
)


def comma_separated(devices: Sequence[Device]) -> str:
    """Returns every line of the summaries as CSV."""
    lines = [
        {"device_name": device.name, "kind": device.kind, **_flat(line)}
        for device in devices
        for config in device.configs
        for line in config.summary
    ]
    names = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _device(run: dict[str, Any], rows: list[Row]) -> Device:
    environment = run.get("environment", {})
    kind = rows[0].machine or environment.get("kind", "host" if rows[0].target == "host" else "board")
    configs: dict[tuple, list[Row]] = {}
    for row in rows:
        configs.setdefault((row.threads, row.delegate, row.core), []).append(row)
    made = [_config(key, configs[key], run.get("baseline")) for key in sorted(configs)]
    made = [config for config in made if config.summary]  # where all timed launches failed, there is nothing to show
    warnings = [*run.get("failures", ()), *run.get("warnings", ())]
    warnings += doubts(line for config in made for line in config.summary)
    if run.get("state") != "complete":
        warnings.insert(0, f"this run is not complete: {run.get('state', 'it was cut off')}")
    last_state = next((row.after for row in reversed(rows) if row.after), {})
    name = environment.get("device", rows[0].device)
    return Device(name, kind, run, made, last_state, list(dict.fromkeys(warnings)))


def _config(key: tuple, rows: list[Row], baseline: str | None) -> DeviceConfig:
    profiles = {row.label: row.ops for row in rows if row.ops}
    return DeviceConfig(*key, summarise(rows, baseline), table4(rows), profiles)


def _files(rows: Iterable[Row]) -> dict[tuple, list[Row]]:
    """Returns the timed rows by arch, alpha, recipe and label."""
    found: dict[tuple, list[Row]] = {}
    for row in final(row for row in rows if row.kind == "time"):
        if row.facts.get("arch") in paper.TITLES and (row.facts.get("size") or paper.SIZE) == paper.SIZE:
            found.setdefault((row.facts["arch"], row.facts.get("alpha"), row.recipe, row.label), []).append(row)
    return found


def _cell(rows: list[Row] | None, base: list[Row]) -> Table4Cell:
    if not rows:
        return Table4Cell()
    (line,) = summarise(rows)
    return Table4Cell(line["ms"], paired_ratio(rows, base), line["doubtful"])


def _table4_markdown(table: Table4) -> str:
    heads = ["MFLOPs", "network", "paper, ratio"]
    heads += [f"{recipe}, {what}" for recipe in table.recipes for what in ("ms", "ratio")]
    lines = []
    for mflops, networks in table.budgets.items():
        for network in networks:
            cells = [text for recipe in table.recipes for text in page.cell_texts(network.cells[recipe])]
            lines.append([str(mflops), network.name, page.number(network.paper_ratio, ".2f"), *cells])
    return markdown_table(heads, lines, words=2)


def _flat(line: dict[str, Any]) -> dict[str, Any]:
    """Returns a line of a summary without what does not fit into a cell."""
    flat = {}
    for name, value in line.items():
        if isinstance(value, dict):
            flat |= {f"{name}_{key}": inner for key, inner in value.items()}
        else:
            flat[name] = "; ".join(map(str, value)) if isinstance(value, list) else value
    return flat


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m android_bench.report",
        description="Writes report.html (one file, works offline), report.md and report.csv into a folder of results.",
        allow_abbrev=False,
    )
    parser.add_argument("results", metavar="FOLDER", type=Path, help="what android_bench.run wrote to: --output_dir")
    args = parser.parse_args(argv)
    try:
        for path in write(args.results):
            print(path)
    except BenchError as error:
        tell("error", [error])
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

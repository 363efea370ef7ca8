"""Writes report.html, report.md and report.csv from a folder of results.

fd-keras report results
"""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import page
from .arguments import Parser
from .count_summary import NOTE as COUNT_NOTE
from .errors import BenchError
from .escaping import markdown as escaped
from .escaping import spreadsheet
from .messages import log
from .program_name import program_name
from .report_model import KINDS, DeviceReport, Table4, cell_texts, number, read_report, title
from .results import Results
from .sustained import NOTE as SUSTAINED_NOTE
from .terminal_table import counts_markdown, energy_notes, markdown_table, summary_markdown, sustained_markdown


def write(folder: Path) -> list[Path]:
    """Writes report.html, report.md and report.csv into a folder of results; returns their paths.

    Raises:
        BenchError: If the folder has no rows, or cannot be written.
    """
    devices, results = read_report(folder), Results(folder)
    texts = {"report.html": page.html(devices), "report.md": markdown(devices), "report.csv": comma_separated(devices)}
    for name, text in texts.items():
        results.write(name, text)
    return [results.folder / name for name in texts]


def markdown(devices: Sequence[DeviceReport]) -> str:
    """Returns the report as Markdown."""
    parts = [f"# {title(devices)}", *(part for device in devices for part in _device_markdown(device))]
    return "\n\n".join(parts) + "\n"


def comma_separated(devices: Sequence[DeviceReport]) -> str:
    """Returns all lines of the summaries as CSV."""
    lines = [
        _inactive({"device_name": device.name, "kind": device.kind, **_flat(line)})
        for device in devices
        for config in device.configs
        for line in (*config.summary, *map(_without_lists, config.counts), *map(_without_lists, config.sustained))
    ]
    names = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _device_markdown(device: DeviceReport) -> list[str]:
    """Returns the Markdown blocks of one device."""
    engine = device.run.get("environment", {}).get("engine", "")
    parts = [
        f"## {escaped(device.name)} ({KINDS[device.kind]})",
        f"Run {escaped(device.run['run'])}: {escaped(device.run.get('state', 'unknown'))}. {escaped(engine)}",
    ]
    if device.warnings:
        parts.append("\n".join(f"- warning: {escaped(warning)}" for warning in device.warnings))
    for config in device.configs:
        parts.append(f"### {escaped(config.title)}")
        if config.table4:
            parts += [_table4_markdown(config.table4), config.table4.note]
        if config.summary:
            parts.append(summary_markdown(config.summary))
        if config.sustained:
            parts += [sustained_markdown(config.sustained), SUSTAINED_NOTE]
        parts += map(escaped, energy_notes([*config.summary, *config.sustained]))
        if config.counts:
            parts += [counts_markdown(config.counts), COUNT_NOTE]
    return parts


def _table4_markdown(table: Table4) -> str:
    heads = ["MFLOPs", "network", "paper, ms", "paper, ratio"]
    heads += [f"{escaped(recipe)}, {what}" for recipe in table.recipes for what in (table.unit, "ratio")]
    lines = []
    for mflops, networks in table.budgets.items():
        for network in networks:
            cells = [text for recipe in table.recipes for text in cell_texts(network.cells[recipe])]
            published = [number(network.paper_ms, ".1f"), number(network.paper_ratio, ".2f")]
            lines.append([str(mflops), network.name, *published, *cells])
    return markdown_table(heads, lines, words=2)


def _without_lists(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in ("ops", "points")}


def _flat(line: dict[str, Any]) -> dict[str, Any]:
    """Flattens a line of a summary to texts and numbers: dicts become columns, lists become text."""
    flat = {}
    for name, value in line.items():
        if isinstance(value, dict):
            flat |= {f"{name}_{key}": inner for key, inner in value.items()}
        else:
            flat[name] = "; ".join(map(str, value)) if isinstance(value, list) else value
    return flat


def _inactive(line: dict[str, Any]) -> dict[Any, Any]:
    """Escapes formulas in the values of a line and in its keys, which become the CSV header."""
    return {spreadsheet(name): spreadsheet(value) for name, value in line.items()}


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    described = Parser(
        prog=program_name("report"),
        description="Writes report.html (one file, works offline), report.md and report.csv into a folder of results.",
        allow_abbrev=False,
    )
    described.add_argument("results", metavar="FOLDER", help="the benchmark's --output_dir")
    return described


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns the exit status.

    Args:
        arguments: Command-line arguments; `sys.argv[1:]` by default.
    """
    args = parser().parse_args(arguments)
    try:
        if not args.results.strip():
            raise BenchError("FOLDER is empty; give the benchmark's --output_dir")
        for path in write(Path(args.results)):
            print(path)
    except BenchError as error:
        log("error", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

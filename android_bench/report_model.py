"""The content of a report: the latest run of each device, its summary, and the paper's Table 4 for comparison."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from . import paper
from .count_summary import instruction_ratio, summarize_counts
from .errors import BenchError
from .messages import log
from .plan import ANY_CORE
from .results import read_rows, read_runs
from .rows import COUNT, Row, last_attempts
from .summary import is_partial, paired_ratio, reliability_warnings, summarize
from .sustained import summarize_sustained

KINDS = {
    "phone": "phone",
    "board": "board or other Linux machine: not a phone",
    "host": "this machine: not a phone",
    "browser": "in a browser: not comparable with apps",
    "core": "an emulated ARM core: counted, not timed",
    "emulator": "emulated: times do not apply to phones",
}
_TABLE4_NOTES = {
    "ms": (
        "Ratios are the network's time divided by FD-MobileNet's at the same budget. \"paper\" is Table 4 of arXiv "
        "1802.03750: one 800 MHz core of an i.MX 6 (Cortex-A9), float32, ncnn. It does not include FD-ShuffleNet."
    ),
    "M": (
        "M: millions of instructions. Ratios are the network's count divided by FD-MobileNet's at the same budget; the "
        "paper's (arXiv 1802.03750, Table 4) are ratios of times on one 800 MHz core of an i.MX 6 (Cortex-A9), ncnn. "
        "It does not include FD-ShuffleNet."
    ),
}
_MAX_LOGGED = 5  # damaged lines to log
_DELEGATE_TITLES = {"xnnpack": "XNNPACK", "none": "TFLite's own kernels", "gpu": "GPU", "npu": "NPU", "nnapi": "NNAPI"}


@dataclass(frozen=True)
class Table4Cell:
    """Latency or instruction count of one network in one recipe.

    Attributes:
        value: Headline latency in ms, or millions of instructions; None if not measured.
        ratio: Ratio to FD-MobileNet; None if not measured.
        doubtful: Whether the value is unreliable.
    """

    value: float | None = None
    ratio: float | None = None
    doubtful: bool = False


@dataclass(frozen=True)
class Table4Line:
    """A network in Table 4.

    Attributes:
        arch, alpha: The network and its width multiplier.
        paper_ms: The paper's latency in ms; None if the paper has none.
        paper_ratio: The paper's ratio to FD-MobileNet; None if the paper has none.
        cells: Results by recipe.
    """

    arch: str
    alpha: float
    paper_ms: float | None
    paper_ratio: float | None
    cells: dict[str, Table4Cell]

    @property
    def name(self) -> str:
        """Display name."""
        return f"{paper.TITLES[self.arch]} {self.alpha:g}x"


@dataclass(frozen=True)
class Table4:
    """Table 4 of the paper, measured in one configuration.

    Attributes:
        recipes: Recipes of the measured files.
        budgets: Lines of the table, by budget in MFLOPs.
        unit: Unit of the values, `ms` or `M` (millions of instructions).
    """

    recipes: tuple[str, ...]
    budgets: dict[int, list[Table4Line]]
    unit: str

    @property
    def note(self) -> str:
        """The explanation below the table."""
        return _TABLE4_NOTES[self.unit]


@dataclass(frozen=True)
class DeviceConfig:
    """Results of a device in one configuration.

    Attributes:
        threads, delegate, core: See `plan.Job`.
        summary: See `summary.summarize`.
        table4: Table 4; None if none of its networks was measured.
        profiles: Ops of each profiled model by label, as (type, ms, name).
        counts: See `count_summary.summarize_counts`; empty if models were timed.
        sustained: See `sustained.summarize_sustained`; empty if there was no sustained run.
    """

    threads: int
    delegate: str
    core: str
    summary: list[dict[str, Any]]
    table4: Table4 | None
    profiles: dict[str, Sequence[Sequence[Any]]]
    counts: list[dict[str, Any]] = field(default_factory=list)
    sustained: list[dict[str, Any]] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Display name of the configuration."""
        core = "" if self.core == ANY_CORE else f", {self.core} core" + "s" * (self.threads > 1)
        delegate = _DELEGATE_TITLES.get(self.delegate, self.delegate)
        return f"{self.threads} thread{'s' * (self.threads > 1)}{core}, {delegate}{self._partial}"

    @property
    def _partial(self) -> str:
        partial, models = sum(map(is_partial, self.summary)), len(self.summary)
        if not partial:
            return ""
        return " for part of the ops" if partial == models else f" ({partial} of {models} models only in part)"


@dataclass(frozen=True)
class DeviceReport:
    """The latest run on a device.

    Attributes:
        name: Display name.
        kind: A key of `KINDS`.
        run: Events of the run; see `results.read_runs`.
        configs: Results by threads, delegate and core.
        last_state: State of the device after the last launch.
        warnings: Reasons why the numbers may be unreliable.
    """

    name: str
    kind: str
    run: dict[str, Any]
    configs: list[DeviceConfig]
    last_state: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def title(devices: Sequence[DeviceReport]) -> str:
    """Returns the title of a report."""
    counted = [device.kind == "core" for device in devices]
    return f"{'Instruction counts' if all(counted) else 'Latency'} of .tflite models"


def read_report(folder: Path) -> list[DeviceReport]:
    """Reads the latest run of each device in a folder of results, phones first; skips and logs damaged lines.

    Raises:
        BenchError: If the folder has no rows.
    """
    damage: list[str] = []
    rows, runs, latest = read_rows(folder, damage), _runs(folder, damage), {}
    log("warning", *damage[:_MAX_LOGGED], *_more(damage))
    for row in rows:
        latest.setdefault((row.origin.target, row.origin.device), {}).setdefault(row.run, []).append(row)
    if not latest:
        why = "all rows are damaged" if damage else "no rows"
        raise BenchError(f"{folder}: {why}; run the benchmark with this --output_dir first")
    devices = []
    for by_run in latest.values():
        name, rows = list(by_run.items())[-1]
        devices.append(_device_report(runs.get(name, {"run": name}), rows, len(damage)))
    return sorted(devices, key=lambda device: list(KINDS).index(device.kind))


def _runs(folder: Path, damage: list[str]) -> dict[str, dict[str, Any]]:
    """Reads the runs; a report can be made from the rows alone."""
    try:
        return read_runs(folder, damage)
    except BenchError as error:
        damage.append(str(error))
        return {}


def _more(damage: Sequence[str]) -> list[str]:
    left = len(damage) - _MAX_LOGGED
    return [f"and {left} more such lines"] if left > 0 else []


def table4(rows: Sequence[Row], kind: str = "time") -> Table4 | None:
    """Arranges the rows of one configuration as the paper's Table 4; None if they contain none of its networks.

    The table is for images of 224 x 224. If several files contain the same network, the one named after it is used.

    Args:
        rows: The rows; those of other kinds of launches are ignored.
        kind: Kind of the launches, `time` or `COUNT`.
    """
    groups = _rows_by_network(row for row in rows if row.kind == kind)
    recipes = tuple(sorted({recipe for _, _, recipe in groups}))
    budgets = {budget.mflops: _table4_lines(budget, groups, recipes) for budget in paper.TABLE4}
    budgets = {mflops: lines for mflops, lines in budgets.items() if lines}
    return Table4(recipes, budgets, "M" if kind == COUNT else "ms") if budgets else None


def _table4_lines(
    budget: paper.Table4Budget, groups: dict[tuple, list[Row]], recipes: Sequence[str]
) -> list[Table4Line]:
    """Returns the measured networks of a budget."""
    base, lines = (paper.BASE, budget.alphas[paper.BASE]), []
    for arch, alpha in budget.alphas.items():
        cells = {r: _table4_cell(groups.get((arch, alpha, r), []), groups.get((*base, r), [])) for r in recipes}
        lines.append(Table4Line(arch, alpha, budget.ms.get(arch), budget.ratio(arch), cells))
    return [line for line in lines if any(cell.value for cell in line.cells.values())]


def _rows_by_network(rows: Iterable[Row]) -> dict[tuple, list[Row]]:
    """Returns the rows of one file per network, by arch, alpha and recipe."""
    files: dict[tuple, list[Row]] = {}
    for row in last_attempts(rows):
        model = row.launch.job.model
        facts = model.facts
        if facts.get("arch") in paper.TITLES and (facts.get("size") or paper.SIZE) == paper.SIZE:
            files.setdefault((facts["arch"], facts.get("alpha"), model.recipe, row.label), []).append(row)
    groups: dict[tuple, list[Row]] = {}
    for arch, alpha, recipe, label in sorted(files, key=lambda key: (not key[-1].startswith(key[0]), key[-1])):
        groups.setdefault((arch, alpha, recipe), files[arch, alpha, recipe, label])
    return groups


def _table4_cell(rows: list[Row], base: list[Row]) -> Table4Cell:
    if not rows:
        return Table4Cell()
    if rows[0].kind == COUNT:
        counts, others = rows[0].details.counts, base[0].details.counts if base else None
        return Table4Cell(counts["instructions"] / 1e6, instruction_ratio(counts, others), bool(rows[0].flags))
    (line,) = summarize(rows)
    return Table4Cell(line["ms"], paired_ratio(rows, base), line["doubtful"])


def pareto(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the Pareto-optimal (ms, accuracy) points, in order of ms."""
    front: list[tuple[float, float]] = []
    for ms, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((ms, accuracy))
    return front


def short_name(line: dict[str, Any]) -> str:
    """Returns the display name of one of the paper's networks, or the file's label.

    Args:
        line: A line of a summary.
    """
    if line.get("arch") in paper.TITLES and line.get("alpha"):
        size = line.get("size") or paper.SIZE
        at = "" if size == paper.SIZE else f" at {'x'.join(map(str, dict.fromkeys(size)))}"
        return f"{paper.TITLES[line['arch']]} {line['alpha']:g}x{at}"
    return line["model"]


def top1_accuracy(line: dict[str, Any]) -> tuple[float, bool] | None:
    """Returns top-1 accuracy in percent, and whether it is the paper's (of the float network) rather than this file's.

    Args:
        line: A line of a summary.
    """
    own, quoted = line.get("accuracy"), line.get("paper_top1")
    if isinstance(own, dict) and _is_percent(own.get("top1")):
        return own["top1"], False
    return (quoted, True) if _is_percent(quoted) and line["recipe"] == "float32" else None


def _is_percent(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100


def number(value: float | None, form: str) -> str:
    """Formats a number; None becomes a dash."""
    return "–" if value is None else format(value, form)


def cell_texts(cell: Table4Cell) -> tuple[str, str]:
    """Returns value and ratio of a cell of Table 4; a star marks unreliable values."""
    digits = 1 if (cell.value or 0) >= 10 else 2 if (cell.value or 0) >= 1 else 3
    return number(cell.value, f".{digits}f") + "*" * cell.doubtful, number(cell.ratio, ".2f")


def _device_report(run: dict[str, Any], rows: list[Row], damaged: int) -> DeviceReport:
    environment, origin = run.get("environment", {}), rows[0].origin
    configs = _configs(rows, run.get("baseline"))
    return DeviceReport(
        name=environment.get("device") or origin.device,
        kind=origin.machine or environment.get("kind") or ("host" if origin.target == "host" else "board"),
        run=run,
        configs=configs,
        last_state=next((row.conditions.after for row in reversed(rows) if row.conditions.after), {}),
        warnings=_warnings(run, configs, damaged),
    )


def _configs(rows: Iterable[Row], baseline: str | None) -> list[DeviceConfig]:
    """Returns the results by configuration, without configurations in which all launches failed."""
    groups: dict[tuple[int, str, str], list[Row]] = {}
    for row in rows:
        job = row.launch.job
        groups.setdefault((job.threads, job.delegate, job.core), []).append(row)
    configs = [_config(*key, groups[key], baseline) for key in sorted(groups)]
    return [config for config in configs if config.summary or config.counts or config.sustained]


def _config(threads: int, delegate: str, core: str, rows: list[Row], baseline: str | None) -> DeviceConfig:
    profiles = {row.label: row.details.ops for row in rows if row.details.ops}
    counts = summarize_counts(rows, baseline)
    paper_table = table4(rows, COUNT if counts else "time")
    summary, sustained = summarize(rows, baseline), summarize_sustained(rows, baseline)
    return DeviceConfig(threads, delegate, core, summary, paper_table, profiles, counts, sustained)


def _warnings(run: dict[str, Any], configs: Sequence[DeviceConfig], damaged: int) -> list[str]:
    warnings = [*run.get("failures", ()), *run.get("warnings", ())]
    warnings += reliability_warnings(line for config in configs for line in config.summary)
    warnings += [f"{line['label']}: {flag}" for config in configs for line in config.counts for flag in line["flags"]]
    if run.get("state") != "complete":
        warnings.insert(0, f"this run is incomplete: {run.get('state', 'it was interrupted')}")
    if damaged:
        warnings.append(f"skipped damaged lines in rows.jsonl and runs.jsonl: {damaged}")
    return list(dict.fromkeys(warnings))

"""A benchmark session: measures on all targets, stores the rows and summarizes them."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from .count_summary import summarize_counts
from .errors import BenchError
from .messages import log
from .models import choose_baseline
from .plan import BenchPlan
from .results import LogWriter, Results
from .rows import Row, completed_keys, last_attempts
from .run_progress import RunProgress
from .stop_signal import StopSignal
from .summary import reliability_warnings, summarize
from .sustained import summarize_sustained


class Target(Protocol):
    """A device or machine that measures.

    Attributes:
        target, device: See `rows.Origin`.
        run: Name of the run, stored in its rows; set before `measure`.
        plan: The plan, without models that cannot run on this target.
        failures: Messages about models that could not be measured.
        warnings: Known reasons why the times may be unreliable.
        environment: Facts about the device; unknown ones are None.
        write_log: Function that stores the benchmark tool's output; set before `measure`.
        identity: See `plan.BenchPlan.identity`.
    """

    target: str
    device: str
    run: str
    plan: BenchPlan
    failures: list[str]
    warnings: list[str]
    environment: dict[str, Any]
    write_log: LogWriter

    @property
    def identity(self) -> str: ...  # noqa: D102  (an attribute, see above)

    def measure(self, stop: Callable[[], bool], done: Iterable[Row] = ()) -> Iterable[Row]:
        """Yields a row for each launch of the plan until `stop()` is true.

        Args:
            stop: Called between launches.
            done: Existing rows of this run, which is continued.

        Raises:
            BenchError: If a model or the device fails permanently.
        """
        ...

    def load_average(self) -> float | None:
        """Returns the load average over the last minute; None if unknown."""
        ...


def measure_all(
    targets: Sequence[Target], results: Results, stop: StopSignal, baseline: str | None = None, fresh: bool = False
) -> list[dict[str, Any]]:
    """Measures on all targets in parallel, and stores the rows.

    A failure (of a device or the disk) ends the measurement on that target and is added to `failures`; the rows so far
    are summarized like a complete run. Failures and warnings are logged to standard error.

    Args:
        targets: The targets, each on a separate device.
        results: The folder of results to write to.
        stop: Ends the measurement early.
        baseline: Name of the model to compare with; see `models.choose_baseline`.
        fresh: Whether to start over instead of continuing an interrupted run of the same plan.

    Returns:
        For each target, the events of its run and its summaries: `models`, `sustained` and `counts`.

    Raises:
        BenchError: If a target has no model to run, or the baseline does not exist.
    """
    references = [choose_baseline(target.plan.models, baseline).label for target in targets]
    with RunProgress(sum(len(list(target.plan.schedule())) for target in targets)) as progress:
        runs = [
            _TargetRun(target, results, stop, progress, reference, fresh)
            for target, reference in zip(targets, references, strict=True)
        ]
        _measure_side_by_side(runs)
    return [run.close() for run in runs]


class _TargetRun:
    """The run of a plan on one target."""

    def __init__(
        self,
        target: Target,
        results: Results,
        stop: StopSignal,
        progress: RunProgress,
        baseline: str,
        fresh: bool,
    ) -> None:
        self._target, self._results, self._stop, self._progress = target, results, stop, progress
        self._rows = [] if fresh else results.unfinished_rows(target.identity, target.plan)
        target.run = self._rows[0].run if self._rows else new_run_name(target.device)
        target.write_log = lambda name, text: results.write_log(target.run, name, text)
        self._failures: list[str] = []
        self._announce()
        self._start = self._start_event(baseline)
        self._baseline = baseline
        results.append_event(**self._start)

    def measure(self) -> None:
        """Measures; a failure is recorded and reported at the end."""
        try:
            for row in self._target.measure(self._stop, tuple(self._rows)):
                self._rows.append(row)
                self._results.append_row(row)
                self._progress.add(row)
        except (BenchError, TimeoutError) as error:
            self._failures.append(str(error))
            log("error", error)

    def close(self) -> dict[str, Any]:
        """Summarizes the run; returns an item of the result of `measure_all`."""
        target = self._target
        models = summarize(self._rows, self._baseline)
        log("warning", *reliability_warnings(models))
        end = {
            "run": target.run,
            "state": self._state(),
            "reported": False,  # set once the report is written
            "load_after": target.load_average(),
            "failures": target.failures + self._failures,
        }
        try:
            self._results.append_event(**end)
        except BenchError as error:
            end["failures"].append(str(error))
            log("error", error)
        others = {
            "sustained": summarize_sustained(self._rows, self._baseline),
            "counts": summarize_counts(self._rows, self._baseline),
        }
        return self._start | end | {"models": models} | others

    def _announce(self) -> None:
        target = self._target
        log("error", *target.failures)
        log("warning", *target.warnings)
        if self._rows:
            done = len(completed_keys(self._rows, target.plan.repeats))
            planned = len(list(target.plan.schedule()))
            how = "closing" if done == planned else "continuing"
            log("note", f"{target.device}: {how} run {target.run}, {done} launches are done (start over with --fresh)")
            self._progress.skip(done)

    def _start_event(self, baseline: str) -> dict[str, Any]:
        target = self._target
        return {
            "run": target.run,
            "target": target.target,
            "device": target.device,
            "identity": target.identity,
            "baseline": baseline,
            "options": target.plan.options(),
            "environment": target.environment,
            "load_before": target.load_average(),
            "state": "interrupted",
            "failures": target.failures,
            "warnings": target.warnings,
        }

    def _state(self) -> str:
        planned = len(list(self._target.plan.schedule()))
        done = len(last_attempts(self._rows))
        if done == planned:
            return "complete"
        if self._stop.signal:
            return f"stopped by {self._stop.signal.name} after {done} of {planned} launches"
        return f"failed after {done} of {planned} launches"


def _measure_side_by_side(runs: Sequence[_TargetRun]) -> None:
    """Runs one device in this thread, or several devices in one thread each."""
    if len(runs) == 1:
        return runs[0].measure()
    # Daemon threads, so that a second Ctrl-C exits at once.
    threads = [threading.Thread(target=run.measure, daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # with a timeout, signals are handled
    return None


def new_run_name(device: str) -> str:
    """Returns a name for a run on a device, made of start time, process ID and device."""
    device = "".join(letter if letter.isalnum() else "-" for letter in device[:80])
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{os.getpid()}-{device}"

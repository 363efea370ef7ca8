"""The LiteRT interpreter on this machine as a target.

The results are for this machine, not a phone. The delegate is LiteRT's CPU default, XNNPACK. Latency is the duration
of `Interpreter.invoke()`, which adds about a microsecond of Python to the network's own time.
"""

import gc
import itertools
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from . import device_info, host_info, host_profiler
from .errors import BenchError
from .messages import log
from .models import ModelFile, choose_baseline, find_models, read_models
from .plan import BenchPlan, Job, Launch
from .random_inputs import fill_inputs
from .results import LogWriter, discard_log
from .rows import SUSTAINED, Conditions, Details, Origin, Row, completed_keys, utc_now
from .shell import Shell
from .summary import describe, summarize
from .sustained import SustainedClock

_DISTURBED = 0.1  # maximum share of the time spent waiting for the core
_COPIES = 3  # memory per model in units of its weights: mapped file, XNNPACK's packed weights, activations


def time_models(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    threads: int | Iterable[int] = BenchPlan.threads,
    rounds: int = BenchPlan.rounds,
    runs: int = BenchPlan.runs,
    min_secs: float = BenchPlan.min_secs,
    warmup: int = BenchPlan.warmup,
    seed: int = BenchPlan.seed,
    baseline: str | None = None,
    on_row: Callable[[Row], object] = lambda row: None,
) -> list[dict[str, Any]]:
    """Times models on this machine in interleaved rounds, for use from Python.

    Args:
        paths: A folder, a file, or several; see `models.find_models`.
        threads: Number of interpreter threads, or several numbers.
        rounds: Number of rounds.
        runs: Minimum number of timed invocations of a model per round.
        min_secs: Minimum seconds of timed invocations of a model per round.
        warmup: Untimed invocations before the timed ones, in each round.
        seed: Seed of the order within the rounds.
        baseline: Name of the model to compare with; see `models.choose_baseline`.
        on_row: Function called with each row as soon as it is measured.

    Returns:
        The summary, one dict per model and number of threads; see `summary.summarize`.

    Raises:
        BenchError: If a model is missing or broken, an option is out of range, or LiteRT is not installed.
    """
    models, failures = read_models(find_models(paths))
    threads = (threads,) if isinstance(threads, int) else tuple(threads)
    plan = BenchPlan(tuple(models), threads, rounds=rounds, runs=runs, min_secs=min_secs, warmup=warmup, seed=seed)
    host = HostTarget(plan, failures)
    if host.failures:
        raise BenchError("\n".join(host.failures))
    reference = choose_baseline(host.plan.models, baseline).label
    rows = []
    for row in host.measure():
        rows.append(row)
        on_row(row)
    return summarize(rows, reference)


class HostTarget:
    """The LiteRT interpreter on this machine, with the models of a plan loaded.

    All interpreters stay loaded during the rounds, or are reloaded in each round if memory is short.

    Args:
        plan: What to measure.
        failures: Messages about models that could not be added to the plan.

    Attributes:
        See `session.Target`. `plan` has no models that LiteRT could not load or run, and no repetitions: the host runs
        many rounds and flags disturbed ones. `write_log` is unused, since the interpreter prints nothing.

    Raises:
        BenchError: If LiteRT is not installed.
    """

    target = "host"

    def __init__(self, plan: BenchPlan, failures: Iterable[str] = ()) -> None:
        _check_supported(plan)
        self.environment = host_info.environment(f"LiteRT {_litert_version()}")
        self.device = platform.node() or "this machine"
        self.run = "unnamed"
        self.write_log: LogWriter = discard_log
        self.failures = list(failures)
        self.warnings = _warnings(plan, self.environment["cores"])
        plan = replace(plan, repeats=0)
        self._keep = _fits_into_memory(plan)
        if not self._keep:
            self.warnings.append("the models do not all fit in memory, so each is reloaded in every round")
        self._loaded: dict[Job, Any] = {}
        self._sustained = SustainedClock()
        self.plan = replace(plan, models=tuple(model for model in plan.models if self._runs(plan, model)))

    @property
    def identity(self) -> str:
        """See `plan.BenchPlan.identity`."""
        return self.plan.identity(self.target, self.device, self.environment["engine"])

    def measure(self, stop: Callable[[], bool] = lambda: False, done: Iterable[Row] = ()) -> Iterator[Row]:
        """Yields a row for each launch of the plan.

        Args:
            stop: Called between invocations; when it returns True, the current launch is discarded.
            done: Existing rows of this run, which is continued.

        Raises:
            BenchError: If a model that ran before fails.
        """
        done = list(done)
        for row in done:
            self._sustained.add(row)
        attempts = {row.key: row.attempt for row in done}
        for launch in self.plan.remaining(completed_keys(done, self.plan.repeats), stop):
            if launch.kind == SUSTAINED:
                yield from self._sustain(launch, attempts.get(launch.key, 0) + 1, stop)
            elif row := self._time(launch, stop) if launch.kind == "time" else self._run_extra(launch):
                yield row

    @staticmethod
    def load_average() -> float | None:
        """Returns the load average over the last minute; None if the system does not report it."""
        return host_info.load_average()

    def _runs(self, plan: BenchPlan, model: ModelFile) -> bool:
        """Loads a model for all numbers of threads; records a failure if it does not run."""
        try:
            for job in replace(plan, models=(model,)).jobs:
                self._interpreter(job)
        except BenchError as error:
            self.failures.append(str(error))
            return False
        return True

    def _interpreter(self, job: Job) -> Any:
        if job in self._loaded:
            return self._loaded[job]
        interpreter = load(job)
        if self._keep:
            self._loaded[job] = interpreter
        return interpreter

    def _time(self, launch: Launch, stop: Callable[[], bool]) -> Row | None:
        """Times one round of a model; returns None if it was stopped."""
        started, load = utc_now(), self.load_average()
        interpreter = self._interpreter(launch.job)
        with _naming(launch.job.model), no_garbage_collection():
            for _ in range(self.plan.warmup):  # the caches still contain the previous model
                interpreter.invoke()
            start = time.thread_time_ns()
            samples = _timed(interpreter.invoke, self.plan, stop)
            flags = _disturbances(launch.job, time.thread_time_ns() - start, sum(samples))
        return None if stop() else self._row(launch, started, load, samples, flags)

    def _sustain(self, launch: Launch, first: int, stop: Callable[[], bool]) -> Iterator[Row]:
        """Yields a row for each attempt, until the machine is as warm as before the pause."""
        for attempt in itertools.count(first):
            before, began = _state(), time.time()
            row = self._time(launch, stop)
            if row is None:
                return
            after, span = _state(), [began, max(began, time.time())]
            after["busy_mhz"] = device_info.busy_mhz(
                before.pop("residency", {}), after.pop("residency", {}), range(os.cpu_count() or 1)
            )
            latency = replace(row.latency, samples_ns=())  # minutes of samples would take megabytes
            conditions = Conditions(row.conditions.load, before, after)
            row = replace(row, attempt=attempt, latency=latency, conditions=conditions)
            row = self._sustained.timed(row, span)
            yield row
            if not row.flags:
                return

    def _run_extra(self, launch: Launch) -> Row | None:
        """Profiles a model, or measures its memory; returns None if that failed."""
        started, load = utc_now(), self.load_average()
        try:
            found = host_profiler.run_in_subprocess(launch.job, launch.kind, self.plan.runs)
        except BenchError as error:
            self.failures.append(str(error))
            log("error", error)
            return None
        samples = found.pop("samples_ns")
        return self._row(launch, started, load, samples, details=Details(**found))

    def _row(
        self,
        launch: Launch,
        started: str,
        load: float | None,
        samples_ns: list[int],
        flags: Iterable[str] = (),
        details: Details | None = None,
    ) -> Row:
        return Row(
            run=self.run,
            origin=Origin(self.target, self.device, self.environment["engine"], self.environment["kind"]),
            launch=launch,
            started=started,
            latency=describe(samples_ns),
            flags=list(flags),
            details=details or Details(),
            conditions=Conditions(load),
        )


def _state() -> dict[str, Any]:
    """Returns the state of this machine without its sensors; empty if it has no POSIX shell."""
    try:
        state = device_info.read_state(Shell())
    except (BenchError, TimeoutError):
        return {}
    return {name: value for name, value in state.items() if name != "sensors"}


def _check_supported(plan: BenchPlan) -> None:
    """Raises BenchError for options that LiteRT's Python interpreter does not support."""
    for name, default in {"delegates": BenchPlan.delegates, "cores": BenchPlan.cores}.items():
        if getattr(plan, name) != default:
            asked = ", ".join(getattr(plan, name))
            raise BenchError(f"--target=host without --benchmark_binary does not support {name} {asked}; pass the tool")
    if "energy" in plan.extras:
        raise BenchError("--energy: --target=host needs --benchmark_binary=PATH to measure energy; pass the tool")


def _disturbances(job: Job, cpu_ns: int, wall_ns: int) -> list[str]:
    """Returns a flag if a single thread waited for its core; several threads also wait for each other."""
    waited = 1 - cpu_ns / wall_ns if job.threads == 1 and wall_ns else 0
    return [f"other processes used the core for {waited:.0%} of the time"] if waited > _DISTURBED else []


def _timed(invoke: Callable[[], object], plan: BenchPlan, stop: Callable[[], bool]) -> list[int]:
    """Returns latencies in ns, of `plan.runs` invocations or `plan.min_secs` seconds, whichever takes longer."""
    clock, samples, total = time.perf_counter_ns, [], 0
    while (len(samples) < plan.runs or total < plan.min_secs * 1e9) and not stop():
        start = clock()
        invoke()
        samples.append(clock() - start)
        total += samples[-1]
    return samples


def load(job: Job) -> Any:
    """Returns an interpreter with its inputs set, which has run once.

    Raises:
        BenchError: If LiteRT cannot load or run the model.
    """
    from ai_edge_litert.interpreter import Interpreter

    with _naming(job.model):
        interpreter = Interpreter(model_path=str(job.model.path), num_threads=job.threads)
        _check_inputs(interpreter, job.model)
        interpreter.allocate_tensors()
        fill_inputs(interpreter)
        interpreter.invoke()
    return interpreter


def _check_inputs(interpreter: Any, model: ModelFile) -> None:
    """Rejects models without a fixed image size, which LiteRT would run on a single pixel. A free batch becomes 1."""
    for detail in interpreter.get_input_details():
        shape = detail["shape_signature"].tolist()
        if min(shape[1:], default=0) < 0:
            raise BenchError(f"{model.path}: input shape {shape} is not fixed; export the model with a static shape")


@contextmanager
def _naming(model: ModelFile) -> Iterator[None]:
    """Converts LiteRT's exceptions to errors that name the file."""
    try:
        yield
    except (ValueError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        way_out = "if the file is incomplete, convert or copy it again"
        raise BenchError(f"{model.path}: LiteRT cannot run it: {reason.rstrip('.')}; {way_out}") from error


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Disables the garbage collector, so that it does not disturb the latencies."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _litert_version() -> str:
    try:
        import ai_edge_litert.interpreter
    except ImportError as error:
        raise BenchError(f"--target=host needs LiteRT ({error}); pip install ai-edge-litert") from error
    return getattr(ai_edge_litert, "__version__", "of unknown version")


def _warnings(plan: BenchPlan, cores: int) -> list[str]:
    found = []
    if max(plan.threads) > cores:
        found.append(f"{max(plan.threads)} threads on {cores} cores: threads wait for each other")
    load = host_info.load_average()
    if load is not None and load + max(plan.threads) > cores + 0.5:
        found.append(f"load average {load} on {cores} cores at the start: other processes may disturb the times")
    return found


def _fits_into_memory(plan: BenchPlan) -> bool:
    """Whether all interpreters fit in half of the available memory; True if that is unknown."""
    available = host_info.available_memory()
    return available is None or _COPIES * sum(job.model.size_bytes for job in plan.jobs) < available / 2

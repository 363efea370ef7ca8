"""The TFLite benchmark tool on a device: phone, board, or this machine, whatever its shell reaches."""

import hashlib
import shlex
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import device_info, parse
from .plan import BenchError, Job, Plan, Visit, at_least
from .results import CannotWrite
from .rows import Row, settled
from .run_progress import tell
from .shell import Gone, Shell, one_line

_DRIFT = 0.10  # of its usual time; beyond it a launch is repeated
_UNSTEADY = 0.5  # standard deviation by mean
_CUT = "----- android_bench -----"
_HISTORY = 3  # launches before there is a usual time
_LOST_IN_A_ROW = 3
# Flags of the classic tool for each delegate; the LiteRT one runs XNNPACK unless told otherwise.
_DELEGATE_FLAGS = {
    "xnnpack": {"use_xnnpack": "true"},
    "none": {"use_xnnpack": "false"},
    "gpu": {"use_gpu": "true"},
    "nnapi": {"use_nnapi": "true"},
}
_EXTRA_FLAGS = {"profile": ("enable_op_profiling", "use_profiler"), "memory": ("report_peak_memory_footprint",)}
_FIXED_PERFORMANCE = "cmd power set-fixed-performance-mode-enabled"


@dataclass(frozen=True)
class Care:
    """How a device is looked after.

    Attributes:
        cooldown: Seconds of rest before each launch.
        max_temp: Degrees Celsius that the processor must have cooled down to before a launch; None: any.
        max_wait: Seconds to wait for that at most.
        timeout: Seconds after which a launch is given up.
        patience: Seconds to wait for a device that dropped off.
        fixed_performance: Whether to hold the clocks where the device offers that.
        clean: Whether to remove our files from the device at the end.

    Raises:
        BenchError: If a value is out of range.
    """

    cooldown: float = 1.0
    max_temp: float | None = None
    max_wait: float = 300.0
    timeout: float = 300.0
    patience: float = 600.0
    fixed_performance: bool = True
    clean: bool = False

    def __post_init__(self) -> None:
        at_least(0, cooldown=self.cooldown, max_temp=self.max_temp or 0, max_wait=self.max_wait, patience=self.patience)
        at_least(1, timeout=self.timeout)


class DeviceTarget:
    """The benchmark tool on one device, ready to run a plan.

    Args:
        shell: Reaches the device.
        plan: What to measure.
        binary: Build of the tool for the device.
        care: How to look after the device.
        failures: Messages about models that did not get into the plan.
        facts: Of `device.read_facts`, if they were read already.

    Attributes:
        See `host.HostTarget`.

    Raises:
        BenchError: If the device cannot run the tool or lacks what the plan asks for.
    """

    def __init__(
        self,
        shell: Shell,
        plan: Plan,
        binary: Path,
        care: Care,
        failures: Iterable[str] = (),
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.target, self.device, self.plan = shell.target, shell.serial, plan
        self.failures, self.run = list(failures), ""
        self.keep_log: Callable[[str, str], str | None] = lambda name, text: None
        self._shell, self._binary, self._care = shell, binary, care
        self._facts = facts or device_info.read_facts(shell)
        device_info.check_abi(binary, self._facts)
        self._digest = hashlib.sha256(binary.read_bytes()).hexdigest()
        state = device_info.read_state(shell)
        self.warnings = [*device_info.troubles(state, self._facts), *_cannot_cool(care, state)]
        self._choose_cores()
        self._set_up()
        self._flags = parse.known_flags(shell.run(f"{self._tool} --help").output)
        self._check_flags()
        self._usual: dict[tuple, list[float]] = {}
        self._given_up: set[Job] = set()
        self._fixed = self._hold_clocks()
        try:
            self._cap = device_info.read_state(shell)["max_mhz"]  # with the clocks held, which itself may cap them
        except (BenchError, TimeoutError):
            self.close()
            raise
        self.environment = self._describe(state)

    @property
    def identity(self) -> str:
        """See `plan.Plan.identity`."""
        return self.plan.identity(self.target, self.device, self._digest)

    def measure(self, stop: Callable[[], bool], done: Iterable[Row] = ()) -> Iterator[Row]:
        """Yields a row for each launch of the plan; a launch that cannot be trusted is repeated.

        Args:
            stop: Is asked between launches.
            done: Rows of this run that are there already: it is continued.

        Raises:
            BenchError: If the device does not come back.
        """
        done = list(done)
        ready = settled(done, self.plan.repeats)
        attempts = {row.key: row.attempt for row in done}
        for row in done:
            self._remember(row)
        for visit in self.plan.schedule():
            if visit.key in ready:
                continue
            for attempt in range(attempts.get(visit.key, 0) + 1, self.plan.repeats + 2):
                if stop() or visit.job in self._given_up:
                    break
                row = self._visit(visit, attempt, stop)
                if row is None:
                    continue
                yield row
                if not row.flags:
                    break
            if stop():
                return

    def close(self) -> None:
        """Leaves the device as it was, as far as it still answers."""
        try:
            if self._fixed:
                self._shell.run(f"{_FIXED_PERFORMANCE} false")
            if self._care.clean:
                device_info.clean(self._shell)
        except (BenchError, TimeoutError) as error:
            tell("warning", [f"{self.device}: not tidied up: {error}"])

    def load_average(self) -> float | None:
        """Returns how busy the device is."""
        try:
            return device_info.read_state(self._shell)["load"]
        except (BenchError, TimeoutError):
            return None

    def _choose_cores(self) -> None:
        self._cores: dict[tuple[str, int], list[int]] = {}
        for core in self.plan.cores:
            for threads in self.plan.threads:
                self._cores[core, threads], warnings = device_info.choose_cores(self._facts, core, threads)
                self.warnings += [warning for warning in warnings if warning not in self.warnings]

    def _set_up(self) -> None:
        """Brings tool and models to the device, and ends what an earlier run left behind."""
        self._tool = shlex.quote(device_info.install(self._shell, self._binary, executable=True))
        self._paths = {model: device_info.install(self._shell, model.path) for model in self.plan.models}
        self._end_strays()

    def _end_strays(self) -> None:
        """Ends tools that outlived a broken connection or their time, and would disturb the others.

        Raises:
            Gone, TimeoutError: If the device does not answer.
        """
        if self._shell.folder:
            # The brackets keep the pattern from matching the shell that runs this.
            self._shell.run(f"pkill -9 -f '[{self._shell.folder[0]}]{self._shell.folder[1:]}/.*--graph='; true")

    def _hold_clocks(self) -> bool:
        """Asks a phone to hold its clocks; returns whether it does."""
        wanted = self._care.fixed_performance and self._facts["kind"] == "phone"
        return wanted and self._shell.run(f"{_FIXED_PERFORMANCE} true").status == 0

    def _check_flags(self) -> None:
        """Refuses what this build of the tool cannot do, before hours are spent on it."""
        for delegate in self.plan.delegates:
            self._delegate_flags(delegate)
        for kind in self.plan.extras:
            self._extra_flags(kind)

    def _delegate_flags(self, delegate: str) -> dict[str, str]:
        wanted = _DELEGATE_FLAGS[delegate]
        if not self._flags or self._flags >= wanted.keys():
            return wanted
        if delegate == "xnnpack":  # the LiteRT tool has no other kernels for a CPU
            return {"use_cpu": "true"} if "use_cpu" in self._flags else {}
        lacks = f"this build of the benchmark tool has no --{next(iter(wanted))}"
        raise BenchError(f"--delegates={delegate}: {lacks}: try --fetch_binary=classic")

    def _extra_flags(self, kind: str) -> dict[str, str]:
        if kind == "time":
            return {}
        for name in _EXTRA_FLAGS[kind]:
            if not self._flags or name in self._flags:
                return {name: "true"}
        raise BenchError(f"this build of the benchmark tool has no --{_EXTRA_FLAGS[kind][0]}")

    def _describe(self, state: dict[str, Any]) -> dict[str, Any]:
        facts = self._facts
        return {
            "device": facts["name"],
            **{name: facts[name] for name in ("kind", "android", "soc", "build", "kernel", "abis")},
            "cores": len(facts["cores"]) or None,
            "clocks": device_info.describe_cores(facts["cores"]),
            "pinned": {f"{core}, {_threads(n)}": cores for (core, n), cores in self._cores.items() if cores},
            "engine": self._engine,
            "fixed_performance": self._fixed,
            "state": {name: value for name, value in state.items() if name != "residency"},
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    @property
    def _engine(self) -> str:
        return f"benchmark_model {self._digest[:12]}"

    def _visit(self, visit: Visit, attempt: int, stop: Callable[[], bool]) -> Row | None:
        """Makes one launch, however often the device drops off; returns None if it failed.

        Raises:
            parse.UnknownFlag, CannotWrite: As no launch would do better.
            BenchError: If the device does not come back.
        """
        for _ in range(_LOST_IN_A_ROW):
            try:
                return self._launch_or_end_it(visit, attempt, stop)
            except (Gone, TimeoutError) as error:
                tell("warning", [error])
                self._come_back(stop)
                if stop():
                    return None
            except (parse.UnknownFlag, CannotWrite):
                raise
            except BenchError as error:
                tell("warning", [f"{self.device}: {visit.job.model.label}: {error}"])
                if attempt > self.plan.repeats:
                    self._give_up(visit.job, str(error))
                return None
        self._give_up(visit.job, f"the device dropped off {_LOST_IN_A_ROW} times while running it")
        return None

    def _come_back(self, stop: Callable[[], bool]) -> None:
        """Waits for the device and sets it up again: it may have rebooted, or have been wiped."""
        deadline = time.monotonic() + self._care.patience
        while not stop():
            self._shell.reconnect(stop, max(0, deadline - time.monotonic()))
            try:
                if not stop():
                    self._set_up()
                    self._hold_clocks()
                return
            except (Gone, TimeoutError) as error:
                tell("warning", [error])
                _sleep(1, stop)
                if time.monotonic() > deadline:
                    away = f"{self.device}: not to be had again within {self._care.patience:.0f} s"
                    raise BenchError(f"{away}: {error}") from error

    def _give_up(self, job: Job, reason: str) -> None:
        self._given_up.add(job)
        self.failures.append(f"{self.device}: {job.model.path}: given up: {reason}")
        tell("error", self.failures[-1:])

    def _launch_or_end_it(self, visit: Visit, attempt: int, stop: Callable[[], bool]) -> Row:
        """Makes one launch, and sees to it that one which takes too long is over.

        Raises:
            Gone, TimeoutError: If it is the device that does not answer.
            BenchError: If the launch failed.
        """
        try:
            return self._launch(visit, attempt, stop)
        except TimeoutError as error:
            self._end_strays()
            raise BenchError(str(error).removeprefix(f"{self.device}: ")) from error

    def _launch(self, visit: Visit, attempt: int, stop: Callable[[], bool]) -> Row:
        hot = self._cool_down(stop)
        started, command = datetime.now(UTC).isoformat(timespec="seconds"), self._command(visit)
        # All in one: what the clock and the heat are is of interest at once after the tool has ended.
        script = f"{device_info.STATE}\necho {_CUT}\n({command})\ns=$?\necho; echo {_CUT}\n{device_info.STATE}\nexit $s"
        status, output = self._shell.run(script, self._care.timeout)
        before, output, after = output.split(f"{_CUT}\n")
        before, after = device_info.parse_state(before), device_info.parse_state(after)
        after["busy_mhz"] = device_info.busy_mhz(
            before.pop("residency"), after.pop("residency"), self._cores_of(visit.job)
        )
        name = "_".join(map(str, [visit.kind, f"round{visit.round}", *visit.key[2:], f"attempt{attempt}"]))
        log = self.keep_log(name, f"$ {command}\n{output}\n(exit status {status})\n")
        row = self._row(
            visit, attempt, self._read(output, status, visit), started=started, before=before, after=after, log=log
        )
        row = replace(row, flags=[*hot, *self._suspicions(row, before, after)] if visit.kind == "time" else [])
        self._remember(row)
        return row

    def _command(self, visit: Visit) -> str:
        job, plan = visit.job, self.plan
        flags = {
            "graph": self._paths[job.model],
            "num_threads": job.threads,
            "num_runs": plan.runs,
            "min_secs": plan.min_secs,
            "warmup_runs": max(1, plan.warmup),
            "max_secs": self._care.timeout / 2,
            **self._delegate_flags(job.delegate),
            **self._extra_flags(visit.kind),
        }
        cores = self._cores_of(job)
        pin = f"taskset {device_info.mask(cores)} " if cores else ""
        return f"{pin}{self._tool} {' '.join(f'--{name}={shlex.quote(str(value))}' for name, value in flags.items())}"

    def _cores_of(self, job: Job) -> list[int]:
        return self._cores[job.core, job.threads]

    def _read(self, text: str, status: int, visit: Visit) -> parse.Output:
        """Reads a launch's output.

        Raises:
            BenchError: If it failed, or did not run where it was asked to.
        """
        parse.check_flags([parse.strip(line) for line in text.splitlines()])
        if status > 128:
            raise BenchError(f"the benchmark tool was killed by signal {status - 128}{_killer(status)}")
        if status:
            raise BenchError(f"the benchmark tool failed with status {status}: {one_line(text)}")
        output = parse.parse(text)
        delegate = visit.job.delegate
        if output.refused and delegate not in ("xnnpack", "none"):
            raise BenchError(f"the delegate {delegate} takes nothing of this model, which would run on the CPU")
        if visit.kind == "profile" and not output.ops:
            raise BenchError("the benchmark tool printed no profile, though it was asked for one")
        return output

    def _row(self, visit: Visit, attempt: int, output: parse.Output, **others: Any) -> Row:
        model, times = visit.job.model, {}
        for name in ("mean", "std", "min", "max", "median", "p95", "init", "first"):
            value = getattr(output, f"{name}_us")
            times[f"{name}_ns"] = None if value is None else value * 1000
        return Row(
            run=self.run,
            target=self.target,
            machine=self._facts["kind"],
            device=self.device,
            engine=f"{self._engine} ({output.generation})",
            model=model.name,
            recipe=model.recipe,
            file=str(model.path),
            sha256=model.sha256,
            size_bytes=model.size_bytes,
            facts=model.facts,
            round=visit.round,
            place=visit.place,
            kind=visit.kind,
            attempt=attempt,
            runs=output.runs,
            statistic="min" if output.median_us is None else "median",
            memory_mb=output.memory_mb,
            delegated=output.delegated,
            ops=[(op.type, op.ms, op.name) for op in output.ops],
            load=others["before"]["load"],
            threads=visit.job.threads,
            delegate=visit.job.delegate,
            core=visit.job.core,
            **times,
            **others,
        )

    def _suspicions(self, row: Row, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
        """Returns why the time of a launch cannot be trusted."""
        found = []
        cores = self._cores[row.core, row.threads]
        for state in (before, after):
            for core, cap in state["max_mhz"].items():
                if cap < device_info.CLOCK_SLACK * self._cap.get(core, 0) and (not cores or int(core) in cores):
                    found.append(f"clock capped at {cap:.0f} of {self._cap[core]:.0f} MHz")
            if state["thermal_status"]:
                found.append(f"throttled by heat (thermal status {state['thermal_status']})")
        if row.std_ns > _UNSTEADY * row.mean_ns:
            found.append(f"unsteady: standard deviation {100 * row.std_ns / row.mean_ns:.0f}% of the mean")
        usual = self._usual.get(_who(row), [])
        if len(usual) >= _HISTORY:
            drift = row.headline_ns / statistics.median(usual) - 1
            if abs(drift) > _DRIFT:
                found.append(f"drifted {drift:+.0%} from its median so far")
        return list(dict.fromkeys(found))

    def _remember(self, row: Row) -> None:
        """Adds a launch to what is usual; the last attempt too, flagged or not, as the device may have changed."""
        if row.kind == "time" and (not row.flags or row.attempt > self.plan.repeats):
            self._usual.setdefault(_who(row), []).append(row.headline_ns)

    def _cool_down(self, stop: Callable[[], bool]) -> list[str]:
        """Waits before a launch; returns a flag if the device stayed too hot."""
        _sleep(self._care.cooldown, stop)
        limit, deadline, told = self._care.max_temp, time.monotonic() + self._care.max_wait, False
        while limit is not None and not stop():
            temperature = device_info.read_state(self._shell)["temperature"]
            if temperature is None or temperature <= limit:
                return []
            if time.monotonic() > deadline:
                return [f"{temperature:.0f} degrees, above --max_temp={limit:g}"]
            if not told:
                tell("waiting", [f"{self.device} is at {temperature:.0f} degrees: cooling down to {limit:g}"])
                told = True
            _sleep(2, stop)
        return []


def _cannot_cool(care: Care, state: dict[str, Any]) -> list[str]:
    """Returns a warning if it cannot be waited until a device is cool."""
    if care.max_temp is None or state["temperature"] is not None:
        return []
    return [f"the device does not tell its temperature: --max_temp={care.max_temp:g} does nothing, --cooldown does"]


def _who(row: Row) -> tuple:
    return (row.label, row.threads, row.delegate, row.core, row.statistic)


def _threads(number: int) -> str:
    return f"{number} thread{'s' * (number > 1)}"


def _killer(status: int) -> str:
    return " (short of memory, or killed by someone)" if status == 137 else ""


def _sleep(seconds: float, stop: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not stop() and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(0.2, left))

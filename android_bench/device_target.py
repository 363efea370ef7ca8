"""The TFLite benchmark tool on a device as a target: a phone, a board or this machine."""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import cooling, device_files, device_info, parse
from .anomalies import AnomalyDetector
from .cores import choose_cores, describe_cores
from .delegation import Delegation
from .device_guard import DeviceGuard
from .device_settings import DeviceSettings
from .energy import ENERGY, energy_per_inference
from .errors import BenchError
from .launcher import Launcher, LaunchOutput, check_output
from .messages import log
from .plan import BenchPlan, Job, Launch
from .power_supply import INTERVAL_SECS, Reading, check_discharging, parse_readings, reading_script
from .results import LogWriter, ResultsWriteError, discard_log
from .rows import SUSTAINED, Conditions, Details, Latency, Origin, Row, completed_keys, utc_now
from .shell import QUICK_SECS, ConnectionLostError, Shell
from .sustained import SustainedClock
from .thermal_sensors import Thermometer

_MIN_READINGS = 5  # minimum number of battery readings on the idle device
_MAX_LOSSES = 3  # times that the connection may break during one launch


class DeviceTarget:
    """The benchmark tool on one device, ready to run a plan.

    Args:
        shell: The device.
        plan: What to measure.
        binary: The benchmark tool, built for the device.
        settings: How to treat the device.
        failures: Messages about models that could not be added to the plan.
        facts: See `device_info.read_facts`; read from the device by default.

    Attributes:
        See `session.Target`.

    Raises:
        BenchError: If the device cannot run the tool or does not support an option of the plan.
    """

    def __init__(
        self,
        shell: Shell,
        plan: BenchPlan,
        binary: Path,
        settings: DeviceSettings,
        failures: Iterable[str] = (),
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.target, self.device, self.plan = shell.target, shell.serial, plan
        self.failures, self.run = list(failures), ""
        self.write_log: LogWriter = discard_log
        self._shell, self._settings = shell, settings
        self._facts = facts or device_info.read_facts(shell)
        device_files.check_abi(binary, self._facts)
        self._clocks_held, self._guard = False, DeviceGuard(shell)
        self._guard.acquire()
        try:
            self._prepare(binary)
        except BaseException:
            self.close()
            raise

    def _prepare(self, binary: Path) -> None:
        """Reads the state, copies the files and fixes the clocks."""
        shell, plan, settings = self._shell, self.plan, self._settings
        state = device_info.read_state(shell)
        self._cores, warnings = _choose_all_cores(self._facts, plan)
        self.warnings = [
            *device_info.state_warnings(state, self._facts),
            *cooling.cooling_warnings(settings, state),
            *warnings,
        ]
        self._launcher = Launcher(shell, binary, plan, settings, self._guard)
        self._given_up: set[Job] = set()
        if ENERGY in plan.extras:
            check_discharging(parse_readings(shell.check(reading_script(1))))
        self._thermometer, self._stuck = Thermometer(), []
        self._sustained = SustainedClock()
        self._clocks_held = self._hold_clocks()
        # Read the limits now, since fixing the clocks may lower them.
        self._anomalies = AnomalyDetector(device_info.read_state(shell)["max_mhz"], plan.repeats)
        self.environment = self._describe(state)

    @property
    def identity(self) -> str:
        """See `plan.BenchPlan.identity`."""
        return self.plan.identity(self.target, self.device, self._launcher.digest)

    def measure(self, stop: Callable[[], bool], done: Iterable[Row] = ()) -> Iterator[Row]:
        """Yields a row for each launch of the plan; launches with unreliable times are repeated.

        Args:
            stop: Called between launches; ends the measurement by returning True.
            done: Existing rows of this run, which is continued.

        Raises:
            BenchError: If the device does not come back.
        """
        done = list(done)
        for row in done:
            self._anomalies.add(row)
            self._sustained.add(row)
        completed, attempts = completed_keys(done, self.plan.repeats), {row.key: row.attempt for row in done}
        for launch in self.plan.remaining(completed, stop):
            yield from self._attempts(launch, attempts.get(launch.key, 0) + 1, stop)

    def close(self) -> None:
        """Restores the device, if it still responds."""
        try:
            if self._clocks_held:
                cooling.release_clocks(self._shell)
                self._guard.free_clocks()
            if self._settings.clean:
                device_files.clean(self._shell)
        except (BenchError, TimeoutError) as error:
            log("warning", f"{self.device}: could not be restored: {error}")
        finally:
            self._guard.close()

    def load_average(self) -> float | None:
        """Returns the load average over the last minute; None if unknown."""
        try:
            return device_info.read_state(self._shell)["load"]
        except (BenchError, TimeoutError):
            return None

    def _hold_clocks(self) -> bool:
        wanted = self._settings.fixed_performance and self._facts["kind"] == "phone"
        if wanted:
            self._guard.hold_clocks()
        return wanted and cooling.hold_clocks(self._shell)

    def _describe(self, state: dict[str, Any]) -> dict[str, Any]:
        facts = self._facts
        return {
            "device": facts["name"],
            **{name: facts[name] for name in ("kind", "android", "soc", "build", "kernel", "abis")},
            "cores": len(facts["cores"]) or None,
            "clocks": describe_cores(facts["cores"]),
            "pinned": {f"{core}, {_threads(n)}": cores for (core, n), cores in self._cores.items() if cores},
            "engine": self._engine,
            "fixed_performance": self._clocks_held,
            "state": {name: value for name, value in state.items() if name not in ("residency", "sensors")},
            "date": utc_now(),
        }

    @property
    def _engine(self) -> str:
        return f"benchmark_model {self._launcher.digest[:12]}"

    def _attempts(self, launch: Launch, first: int, stop: Callable[[], bool]) -> Iterator[Row]:
        """Yields a row for each attempt at a launch, until one is reliable.

        A sustained launch is repeated until the device is as warm as before the pause; only failures count as attempts.
        """
        failures = 0
        for attempt in itertools.count(first):
            used = failures if launch.kind == SUSTAINED else attempt - 1
            if stop() or launch.job in self._given_up or used > self.plan.repeats:
                return
            row = self._attempt(launch, attempt, stop, last=used == self.plan.repeats)
            if row is None:
                failures += 1
                continue
            yield row
            if not row.flags:
                return

    def _attempt(self, launch: Launch, attempt: int, stop: Callable[[], bool], last: bool) -> Row | None:
        """Runs one launch, and retries it if the device disconnects; returns None if it failed.

        Args:
            launch: The launch to run.
            attempt: Number of the attempt.
            stop: See `measure`.
            last: Whether to give up on the job if the launch fails.

        Raises:
            parse.UnknownFlagError, ResultsWriteError: If all further launches would fail too.
            BenchError: If the device does not come back.
        """
        for losses in range(_MAX_LOSSES):
            try:
                if losses:  # the device may have rebooted
                    self._hold_clocks()
                return self._launch(launch, attempt, stop)
            except (ConnectionLostError, TimeoutError) as error:
                log("warning", error)
                self._launcher.reconnect(stop)
                if stop():
                    return None
            except (parse.UnknownFlagError, ResultsWriteError):
                raise
            except BenchError as error:
                log("warning", f"{self.device}: {launch.job.model.label}: {error}")
                if last:
                    self._give_up(launch.job, str(error))
                return None
        self._give_up(launch.job, f"the device disconnected {_MAX_LOSSES} times while running it")
        return None

    def _give_up(self, job: Job, reason: str) -> None:
        self._given_up.add(job)
        self.failures.append(f"{self.device}: {job.model.path}: gave up: {reason}")
        log("error", self.failures[-1])

    def _launch(self, launch: Launch, attempt: int, stop: Callable[[], bool]) -> Row:
        hot = [] if self._is_hot_on_purpose(launch) else self._cool_down(stop)
        started, cores, began = utc_now(), self._cores[launch.job.core, launch.job.threads], time.time()
        idle = self._read_battery() if launch.kind == ENERGY else []
        output = self._launcher.run(launch, cores)
        span = [began, max(began, time.time())]
        log_file = self._write_log(launch, attempt, output)
        parsed, delegation = check_output(output, launch.job, launch.kind)
        details = _details(parsed, delegation, log_file)
        if launch.kind == ENERGY:
            energy = energy_per_inference(idle, output.readings, self._read_battery(), parsed.mean_us / 1e6)
            details = replace(details, energy=energy)
        row = Row(
            run=self.run,
            origin=Origin(self.target, self.device, f"{self._engine} ({parsed.generation})", self._facts["kind"]),
            launch=launch,
            started=started,
            latency=_latency(parsed),
            attempt=attempt,
            flags=[],
            details=details,
            conditions=self._conditions(output, cores),
        )
        if launch.kind == "time":
            row = replace(row, flags=[*hot, *self._anomalies.flags(row, cores)])
        elif launch.kind == SUSTAINED:
            row = self._sustained.timed(row, span)
        self._anomalies.add(row)
        return row

    def _read_battery(self) -> list[Reading]:
        """Reads the battery of the idle device, for half as long as a model runs.

        Raises:
            BenchError: If the battery is charging.
        """
        secs = self._settings.energy_secs / 2
        script = reading_script(max(_MIN_READINGS, math.ceil(secs / INTERVAL_SECS)))
        readings = parse_readings(self._shell.check(script, QUICK_SECS + 4 * secs))
        check_discharging(readings)
        return readings

    def _is_hot_on_purpose(self, launch: Launch) -> bool:
        return launch.kind == SUSTAINED and self._sustained.has_begun(launch.job)

    def _cool_down(self, stop: Callable[[], bool]) -> list[str]:
        return cooling.cool_down(self._shell, self._settings, stop, self._thermometer)

    def _conditions(self, output: LaunchOutput, cores: list[int]) -> Conditions:
        """Returns the states, with the mean clock instead of the long table that it is computed from."""
        before, after = dict(output.before), dict(output.after)
        for state in (before, after):
            state["temperature"], state["sensor"] = self._thermometer.read(state.pop("sensors"))
        self._warn_of_stuck_sensors()
        after["busy_mhz"] = device_info.busy_mhz(before.pop("residency"), after.pop("residency"), cores)
        return Conditions(before["load"], before, after)

    def _warn_of_stuck_sensors(self) -> None:
        found = [name for name in self._thermometer.stuck if name not in self._stuck]
        self._stuck += found
        for name in found:
            log("warning", f"{self.device}: the sensor {name} is stuck at one value; ignoring it from now on")

    def _write_log(self, launch: Launch, attempt: int, output: LaunchOutput) -> str | None:
        """Saves the output before it is parsed, so that it is not lost if parsing fails."""
        name = "_".join(map(str, [launch.kind, f"round{launch.round}", *launch.key[2:], f"attempt{attempt}"]))
        return self.write_log(name, f"$ {output.command}\n{output.text}\n(exit status {output.status})\n")


def _choose_all_cores(facts: dict[str, Any], plan: BenchPlan) -> tuple[dict[tuple[str, int], list[int]], Iterable[str]]:
    """Returns the cores by choice and number of threads, and warnings."""
    cores, warnings = {}, {}
    for core in plan.cores:
        for threads in plan.threads:
            cores[core, threads], found = choose_cores(facts, core, threads)
            warnings |= dict.fromkeys(found)
    return cores, warnings


def _latency(output: parse.ToolOutput) -> Latency:
    return Latency(
        runs=output.runs,
        statistic="min" if output.median_us is None else "median",
        median_ns=_ns(output.median_us),
        min_ns=output.min_us * 1000,
        p95_ns=_ns(output.p95_us),
        max_ns=output.max_us * 1000,
        mean_ns=output.mean_us * 1000,
        std_ns=output.std_us * 1000,
        init_ns=_ns(output.init_us),
        first_ns=_ns(output.first_us),
    )


def _details(output: parse.ToolOutput, delegation: Delegation | None, log_file: str | None) -> Details:
    ops = [(op.type, op.ms, op.name) for op in output.ops]
    return Details(output.memory_mb, output.delegated, ops, log_file, delegation.to_json() if delegation else {})


def _ns(us: float | None) -> float | None:
    return None if us is None else us * 1000


def _threads(number: int) -> str:
    return f"{number} thread{'s' * (number > 1)}"

"""Launching the TFLite benchmark tool on a device: files, command line, timeout and exit status."""

import hashlib
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import device_files, device_info, parse
from .cooling import sleep
from .cores import taskset_mask
from .delegation import Delegation, check_delegation
from .device_guard import DeviceGuard
from .device_settings import DeviceSettings
from .energy import ENERGY
from .errors import BenchError
from .messages import log
from .plan import BenchPlan, Job, Launch
from .power_supply import Reading, parse_readings, sampled_command
from .shell import ConnectionLostError, Shell, one_line

_SIGKILL = 9
_CUT = "----- android_bench -----"
# The tool's flags for each delegate. The LiteRT tool runs XNNPACK by default, also for ops that an accelerator does not
# take: litert/tools/benchmark_litert_model.h in google-ai-edge/LiteRT.
_DELEGATE_FLAGS = {
    "xnnpack": {"use_xnnpack": "true"},
    "none": {"use_xnnpack": "false"},
    "gpu": {"use_gpu": "true"},
    "npu": {"use_npu": "true"},
    "nnapi": {"use_nnapi": "true"},
}
_DISPATCH = "libLiteRtDispatch"  # the library that the tool looks for in the folder
_NEWER = ("max_secs",)  # flags of newer builds; without this one, our own timeout does the same
_EXTRA_FLAGS = {"profile": ("enable_op_profiling", "use_profiler"), "memory": ("report_peak_memory_footprint",)}


class LaunchOutput(NamedTuple):
    """Output of one launch of the benchmark tool.

    Attributes:
        command: The command line.
        status: Exit status.
        text: Standard output and error.
        before, after: State of the device before and after the launch; see `device_info.parse_state`.
        readings: Battery readings during the launch; empty unless energy is measured.
    """

    command: str
    status: int
    text: str
    before: dict[str, Any]
    after: dict[str, Any]
    readings: Sequence[Reading] = ()


class ToolFlags:
    """The command-line flags of a build of the benchmark tool.

    Args:
        known: Names of the supported flags; empty if the build does not list them.
    """

    def __init__(self, known: frozenset[str]) -> None:
        self._known = known

    def check(self, delegates: Iterable[str], extras: Iterable[str]) -> None:
        """Raises BenchError for options that this build does not support, before any time is spent on measuring."""
        for delegate in delegates:
            self.of_delegate(delegate)
        for kind in extras:
            self.of_kind(kind)

    def of_delegate(self, delegate: str) -> dict[str, str]:
        """Returns the flags that select a delegate."""
        wanted = _DELEGATE_FLAGS[delegate]
        if not self._known or self._known >= wanted.keys():
            return wanted
        if delegate == "xnnpack" and "use_cpu" in self._known:  # the LiteRT tool has no other CPU kernels
            return {"use_cpu": "true"}
        if delegate == "none" and "use_cpu" not in self._known:  # a classic build from before XNNPACK
            return {}
        lacks = f"this build of the benchmark tool has no --{next(iter(wanted))}"
        generation = "litert" if delegate == "npu" else "classic"
        raise BenchError(f"--delegates={delegate}: {lacks}; try --fetch_binary={generation}")

    def drop_unknown(self, flags: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the flags without unsupported ones of newer builds that do not affect the measurement."""
        return {
            name: value for name, value in flags.items() if name not in _NEWER or not self._known or name in self._known
        }

    def of_kind(self, kind: str) -> dict[str, str]:
        """Returns the flags for a kind of launch; see `plan.Launch`."""
        if kind not in _EXTRA_FLAGS:
            return {}
        for name in _EXTRA_FLAGS[kind]:
            if not self._known or name in self._known:
                return {name: "true"}
        raise BenchError(f"this build of the benchmark tool has no --{_EXTRA_FLAGS[kind][0]}")


class Launcher:
    """Launches the benchmark tool on a device.

    Args:
        shell: The device.
        binary: The benchmark tool, built for the device.
        plan: The models and the options of each launch.
        settings: Timeout and patience.
        guard: The device's lock, already acquired.

    Attributes:
        digest: Hash of the tool, hexadecimal, followed by the hash of the libraries if there are any.

    Raises:
        BenchError: If the files cannot be copied, or the tool does not support an option of the plan.
    """

    def __init__(
        self, shell: Shell, binary: Path, plan: BenchPlan, settings: DeviceSettings, guard: DeviceGuard
    ) -> None:
        self._shell, self._binary, self._plan, self._settings, self._guard = shell, binary, plan, settings, guard
        self.digest = hashlib.sha256(binary.read_bytes()).hexdigest()
        self._libraries = device_files.Libraries(settings.libraries) if settings.libraries else None
        if self._libraries:
            self.digest += f"+{self._libraries.digest[:12]}"
        if "npu" in plan.delegates and not (self._libraries and self._libraries.has(_DISPATCH)):
            raise BenchError(f"--libraries={settings.libraries}: no {_DISPATCH}*.so, which --delegates=npu needs")
        self._install()
        self._flags = ToolFlags(parse.known_flags(shell.run(f"{self._environment}{self._tool} --help").output))
        self._flags.check(plan.delegates, plan.extras)

    def run(self, launch: Launch, cores: Iterable[int]) -> LaunchOutput:
        """Runs one launch, and kills it after the timeout.

        Args:
            launch: The launch to run.
            cores: Numbers of the cores to pin it to; empty for any core.

        Raises:
            ConnectionLostError, TimeoutError: If the device does not answer.
            BenchError: If the launch took too long.
        """
        command, state = self.command(launch, cores), device_info.STATE_SCRIPT
        tool = self._guard.command(command)
        runs = sampled_command(tool, _CUT) if launch.kind == ENERGY else f"({tool})\ns=$?"
        # One script, so that clock and temperature are read right after the tool has ended.
        script = f"{state}\necho {_CUT}\n{runs}\necho; echo {_CUT}\n{state}\nexit $s"
        try:
            status, output = self._shell.run(script, self._settings.timeout)
        except TimeoutError as error:
            self._guard.end_tool()
            raise BenchError(str(error).removeprefix(f"{self._shell.serial}: ")) from error
        before, text, *readings, after = output.split(f"{_CUT}\n")
        states = device_info.parse_state(before), device_info.parse_state(after)
        return LaunchOutput(command, status, text, *states, parse_readings("".join(readings)))

    def command(self, launch: Launch, cores: Iterable[int] = ()) -> str:
        """Returns the command line of a launch."""
        job, plan, cores = launch.job, self._plan, list(cores)
        flags = self._flags.drop_unknown(
            {
                "graph": self._paths[job.model],
                "num_threads": job.threads,
                "num_runs": plan.runs,
                "min_secs": self._settings.energy_secs if launch.kind == ENERGY else plan.min_secs,
                "warmup_runs": max(1, plan.warmup),
                "max_secs": self._settings.timeout / 2,
                **self._flags.of_delegate(job.delegate),
                **(self._npu_flags() if job.delegate == "npu" else {}),
                **self._flags.of_kind(launch.kind),
            }
        )
        pin = f"taskset {taskset_mask(cores)} " if cores else ""
        words = (f"--{name}={shlex.quote(str(value))}" for name, value in flags.items())
        return f"{pin}{self._environment}{self._tool} {' '.join(words)}"

    def reconnect(self, stop: Callable[[], bool]) -> None:
        """Waits for a disconnected device, and reinstalls the files, since it may have been rebooted or wiped.

        Raises:
            BenchError: If it does not come back.
        """
        patience = self._settings.patience
        deadline = time.monotonic() + patience
        while not stop():
            self._shell.reconnect(stop, max(0, deadline - time.monotonic()))
            try:
                if not stop():
                    self._guard.acquire()
                    self._guard.end_tool()  # it may still be running
                    self._install()
                return
            except (ConnectionLostError, TimeoutError) as error:
                log("warning", error)
                sleep(1, stop)
                if time.monotonic() > deadline:
                    late = f"{self._shell.serial}: did not come back within {patience:.0f} s"
                    raise BenchError(f"{late}: {error}") from error

    def _npu_flags(self) -> dict[str, str]:
        """Returns the flags for the NPU's libraries; the compiler plugin is for models that are not compiled yet."""
        needed = {"dispatch_library_path": _DISPATCH, "compiler_plugin_library_path": "libLiteRtCompilerPlugin"}
        has = self._libraries.has if self._libraries else lambda _: False
        return {flag: self._library_folder for flag, name in needed.items() if has(name)}

    @property
    def _environment(self) -> str:
        """Environment variables by which the tool finds the libraries; Qualcomm's DSP uses a separate path."""
        if not self._libraries:
            return ""
        folder = shlex.quote(self._library_folder)
        return f"env LD_LIBRARY_PATH={folder} ADSP_LIBRARY_PATH={folder} "

    def _install(self) -> None:
        """Copies tool, models and libraries to the device."""
        self._tool = shlex.quote(device_files.install(self._shell, self._binary, executable=True))
        self._paths = {model: device_files.install(self._shell, model.path) for model in self._plan.models}
        if self._libraries:
            self._library_folder = device_files.install_libraries(self._shell, self._libraries)


def check_output(output: LaunchOutput, job: Job, kind: str) -> tuple[parse.ToolOutput, Delegation | None]:
    """Parses the output of a launch.

    Returns:
        The measurements, and the ops that the delegate took, None if the tool does not print them.

    Raises:
        parse.UnknownFlagError: If the tool ignored a flag.
        BenchError: If the tool failed, or ran without the requested delegate or profile.
    """
    lines = [parse.strip(line) for line in output.text.splitlines()]
    parse.check_flags(lines)
    _check_status(output)
    parsed = parse.parse(output.text)
    delegation = check_delegation(lines, job.delegate)
    if kind == "profile" and not parsed.ops:
        raise BenchError("the benchmark tool did not print the requested profile")
    return parsed, delegation


def _check_status(output: LaunchOutput) -> None:
    if output.status > 128:
        number = output.status - 128
        killer = " (out of memory, or killed by another process)" if number == _SIGKILL else ""
        raise BenchError(f"the benchmark tool was killed by signal {number}{killer}")
    if output.status:
        raise BenchError(f"the benchmark tool failed with status {output.status}: {one_line(output.text)}")

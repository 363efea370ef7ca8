"""Times .tflite files on phones, boards or this machine, in interleaved rounds, or counts their instructions.

fd-keras bench --models=FOLDER --fetch_binary
fd-keras bench --models=FOLDER --target=host
fd-keras bench --models=FOLDER --target=emulator
fd-keras bench --models=FOLDER --fetch_binary --sustained=30m
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import adb, arguments, count_baseline, device_files, device_info, fetch, report
from .arguments import Parser
from .device_guard import DeviceGuard
from .device_settings import DeviceSettings
from .device_target import DeviceTarget
from .emulated_cores import CORES, choose
from .emulator_target import FOLDER, Emulator, EmulatorTarget
from .errors import BenchError
from .host_target import HostTarget
from .messages import log
from .models import find_models, read_models
from .plan import ANY_CORE, DELEGATES, BenchPlan, parse_threads, split_list
from .program_name import program_name, report_command
from .results import Results
from .session import Target, measure_all
from .shell import Shell
from .ssh import SshShell
from .stop_signal import StopSignal
from .sustained import SustainedPlan, parse_duration
from .terminal_table import final_report

_EPILOG = """\
Models are timed in rounds, in an order that changes from round to round, so that drift of the
device affects all models equally. Each row is appended to rows.jsonl in the output folder as soon
as it is measured; run the same command again to continue an interrupted plan. At the end, the
results in the folder are written to report.html, report.md and report.csv. New to phones? Start
with docs/phones.md.

exit status: 0 all models were measured; 1 some failed, or exceed --baseline_file; 2 nothing was
measured; 130, 143 or 129 stopped by Ctrl-C, SIGTERM or SIGHUP (results so far are saved)"""
_PLAN_HELP = {
    "rounds": "number of rounds",
    "runs": "minimum number of timed invocations of a model per round",
    "min_secs": "minimum seconds of timed invocations of a model per round",
    "warmup": "untimed invocations before the timed ones",
    "repeats": "maximum number of times to repeat a launch with an unreliable time",
    "seed": "seed of the order within the rounds",
}
_SETTINGS_HELP = {
    "cooldown": "seconds of rest before each launch",
    "max_temp": "degrees Celsius to cool down to before each launch",
    "timeout": "seconds after which a launch is killed",
    "patience": "seconds to wait for a device that disconnects",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns the exit status.

    Args:
        arguments: Command-line arguments; `sys.argv[1:]` by default.
    """
    args = parser().parse_args(arguments)
    try:
        plan, settings = _check(args)
        with StopSignal() as stop:
            failed = _clean(args) if args.clean_only else _run(args, plan, settings, stop)
    except (BenchError, TimeoutError) as error:
        log("error", error)
        return 2
    except KeyboardInterrupt:  # a second Ctrl-C
        log("error", "stopped at once; results so far are saved")
        return 130
    return 128 + stop.signal if stop.signal else int(failed)


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    described = Parser(
        prog=program_name("run"),
        description="Times .tflite files in interleaved rounds.",
        epilog=_EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=100),
        allow_abbrev=False,
    )
    add = described.add_argument
    add("--models", metavar="PATHS", help="folder of .tflite files, or a list of files and folders: A,B")
    add("--output_dir", default="results", metavar="FOLDER", help="folder of results (default: %(default)s)")
    _add_where(described.add_argument_group("where"))
    _add_what(described.add_argument_group("what"))
    _add_how(described.add_argument_group("how"))
    _add_check(described.add_argument_group("check (--target=emulator)"))
    return described


def _add_where(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    targets = ("adb", "ssh", "host", "emulator")
    add("--target", choices=targets, default="adb", help="phones (default), boards, this machine, emulated ARM cores")
    add("--serial", metavar="A,B", help=f"from `adb devices`, or all; ssh: user@host; emulator: {', '.join(CORES)}")
    add("--emulator", default=str(FOLDER), metavar="FOLDER", help="output of `make emulator` (default: %(default)s)")
    add("--benchmark_binary", metavar="PATH", help="the TFLite benchmark tool, built for the device")
    add("--fetch_binary", nargs="?", const="litert", choices=tuple(fetch.URLS), help="download it (default: litert)")
    add("--refetch", action="store_true", help="download it again, to get the newest build")
    add("--libraries", metavar="FOLDER", help="shared libraries that the tool loads for --delegates=gpu or npu")
    add("--adb", default="adb", metavar="PATH", help="the adb client (default: adb on the PATH)")
    add("--ssh", default="ssh", metavar="COMMAND", help='the ssh client, such as "ssh -p 2222"')


def _add_what(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--threads", default="1", metavar="N", help="interpreter threads, such as 1 or 1,2 (default: 1)")
    add("--core", metavar="WHICH", help="big, little, any, or a hex mask; several: big,little (default: big)")
    add("--delegates", default="xnnpack", metavar="A,B", help=f"any of {', '.join(DELEGATES)} (default: xnnpack)")
    add("--op_profile", action="store_true", help="launch each model once more to time each op")
    add("--memory", action="store_true", help="launch each model once more to measure peak memory")
    add(
        "--energy",
        nargs="?",
        const=60.0,
        type=parse_duration,
        metavar="TIME",
        help="measure energy on battery power (unplug the device; default time: 60 s)",
    )
    add("--baseline", metavar="NAME", help="model to compare with (default: first FD-MobileNet, or first)")


def _add_how(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    for name, text in _PLAN_HELP.items():
        value = getattr(BenchPlan, name)
        add(f"--{name}", type=type(value), default=value, metavar="N", help=f"{text} (default: {value})")
    for name, text in _SETTINGS_HELP.items():
        value = getattr(DeviceSettings, name)
        default = "any" if value is None else f"{value:g}"
        add(f"--{name}", type=float, default=value, metavar="N", help=f"{text} (default: {default})")
    add("--sustained", type=parse_duration, metavar="TIME", help="run each model back to back for a time such as 30m")
    add("--fixed_performance", action=argparse.BooleanOptionalAction, default=True, help="fix a phone's clocks")
    add("--fresh", action="store_true", help="start over instead of continuing an interrupted plan")
    add("--clean", action="store_true", help="delete our files from the device at the end")
    add("--clean_only", action="store_true", help="delete them now, without timing anything")


def _add_check(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--baseline_file", metavar="PATH", help="counts to compare with; exit status 1 if a model exceeds them")
    add("--update_baseline", action="store_true", help="write the counts to that file instead")
    tolerance = count_baseline.parse_tolerance
    add("--tolerance", type=tolerance, default=1.0, metavar="N%", help="how much a count may grow (default: 1%%)")


def _check_without_tool(args: argparse.Namespace) -> None:
    """Raises BenchError for flags that LiteRT's Python interpreter would ignore."""
    defaults = parser()
    for name in (*_SETTINGS_HELP, "serial", "libraries", "refetch"):
        if getattr(args, name) not in (defaults.get_default(name), 0):  # it never rests, as with --cooldown=0
            raise BenchError(f"--{name}: --target=host without --benchmark_binary does not support it; pass the tool")


def _check(args: argparse.Namespace) -> tuple[BenchPlan, DeviceSettings]:
    """Checks all flags; returns the plan, still without models, and the settings.

    Raises:
        BenchError: If a flag has an invalid value.
    """
    arguments.check(args)
    if args.target == "host" and not (args.benchmark_binary or args.fetch_binary):
        _check_without_tool(args)
    libraries = Path(args.libraries).expanduser() if args.libraries else None
    own = {"fixed_performance": args.fixed_performance, "clean": args.clean, "libraries": libraries}
    own |= {"energy_secs": args.energy} if args.energy else {}
    try:
        plan = BenchPlan((), **_plan_options(args))
        checked = _over_time(args, plan), DeviceSettings(**_select(args, _SETTINGS_HELP), **own)
    except BenchError as error:
        raise BenchError(f"--{error}") from error
    if (args.baseline_file or args.update_baseline) and args.target != "emulator":
        raise BenchError("--baseline_file and --update_baseline need --target=emulator, the only target that counts")
    if args.update_baseline and not args.baseline_file:
        raise BenchError("--update_baseline needs --baseline_file=PATH, the file to write")
    if not (args.models or args.clean_only):
        raise BenchError("--models=FOLDER is missing; name the .tflite files to time")
    return checked


def _over_time(args: argparse.Namespace, plan: BenchPlan) -> BenchPlan:
    """Converts the plan to one of a sustained run if --sustained is given."""
    for name in ("sustained", "energy"):
        if getattr(args, name) and args.target == "emulator":
            raise BenchError(f"{name}: --target=emulator counts instructions, not time or energy; remove the flag")
    if args.sustained is None:
        return plan
    for name in ("rounds", "runs", "min_secs", "warmup"):
        if getattr(args, name) != getattr(BenchPlan, name):
            raise BenchError(f"{name}: --sustained sets the number of launches; remove one of the two flags")
    return SustainedPlan.of(plan, args.sustained)


def _run(args: argparse.Namespace, plan: BenchPlan, settings: DeviceSettings, stop: StopSignal) -> bool:
    """Runs the plan; returns whether a model failed."""
    models, failures = read_models(find_models(args.models))
    if not models:
        log("error", *failures)
    plan = replace(plan, models=tuple(models))
    results = Results(args.output_dir)
    try:
        return _measure(args, plan, settings, failures, results, stop)
    except BenchError:
        results.remove_if_unused()
        raise


def _measure(
    args: argparse.Namespace,
    plan: BenchPlan,
    settings: DeviceSettings,
    failures: list[str],
    results: Results,
    stop: StopSignal,
) -> bool:
    """Measures and writes the report; returns whether a model failed or exceeds the baseline file."""
    baseline = count_baseline.read(Path(args.baseline_file)) if args.baseline_file and not args.update_baseline else {}
    with results.lock():
        with ExitStack() as cleanup:
            targets = list(_targets(args, plan, settings, failures, results, cleanup))
            runs = measure_all(targets, results, stop, args.baseline, args.fresh)
        measured = any(run["models"] or run["sustained"] or run["counts"] for run in runs)
        if measured:
            report.write(results.folder)
            for run in runs:
                results.append_event(run=run["run"], reported=True)
    with suppress(OSError):  # the terminal was closed, but everything is saved
        print(final_report(runs, results.folder), flush=True)
        if measured:
            print(f"next: {report_command(str(results.folder))}", flush=True)
    failed = any(run["failures"] for run in runs)
    return (_exceeds_baseline(args, baseline, runs) or failed) if args.baseline_file and measured else failed


def _exceeds_baseline(
    args: argparse.Namespace, baseline: count_baseline.Baseline, runs: Sequence[Mapping[str, Any]]
) -> bool:
    """Compares the counts with the baseline file, or updates the file; returns whether that failed."""
    counts = count_baseline.collect(line for run in runs for line in run["counts"])
    if args.update_baseline and any(run["state"] != "complete" for run in runs):
        log("error", f"--baseline_file={args.baseline_file}: not written, because not all models were counted")
        return True
    if args.update_baseline:
        count_baseline.write(Path(args.baseline_file), counts)
        return False
    log("warning", *count_baseline.unchecked(counts, baseline))
    found = count_baseline.regressions(counts, baseline, args.tolerance)
    log("error", *found)
    return bool(found)


def _clean(args: argparse.Namespace) -> bool:
    for shell in _shells(args):
        with closing(DeviceGuard(shell)) as guard:
            guard.acquire()
            device_files.clean(shell)
        print(f"{shell.serial}: removed {shell.folder or 'nothing'}")
    return False


def _plan_options(args: argparse.Namespace) -> dict[str, Any]:
    core = args.core or (ANY_CORE if args.target in ("host", "emulator") else "big")
    return {
        **_select(args, _PLAN_HELP),
        "threads": parse_threads(args.threads),
        "delegates": split_list(args.delegates),
        "cores": split_list(core),
        "extras": ("profile",) * args.op_profile + ("memory",) * args.memory + ("energy",) * bool(args.energy),
    }


def _select(args: argparse.Namespace, names: Mapping[str, str]) -> dict[str, Any]:
    return {name: getattr(args, name) for name in names}


def _targets(
    args: argparse.Namespace,
    plan: BenchPlan,
    settings: DeviceSettings,
    failures: list[str],
    results: Results,
    cleanup: ExitStack,
) -> Iterator[Target]:
    """Yields the targets; `cleanup` restores each device, however the run ends."""
    if args.target == "emulator":
        emulator = Emulator.find(Path(args.emulator))
        for core in choose(split_list(args.serial or "")):
            yield EmulatorTarget(plan, core, emulator, failures)
        return
    if not (args.benchmark_binary or args.fetch_binary):
        if args.target != "host":
            raise BenchError("--benchmark_binary=PATH is missing; use --fetch_binary to download the official build")
        yield HostTarget(plan, failures)
        return
    for shell in _shells(args):
        facts = device_info.read_facts(shell)
        target = DeviceTarget(shell, plan, _binary(args, facts, results), settings, failures, facts)
        cleanup.callback(target.close)
        yield target


def _binary(args: argparse.Namespace, facts: dict[str, Any], results: Results) -> Path:
    """Returns the benchmark tool for a device."""
    if args.benchmark_binary:
        return Path(args.benchmark_binary).expanduser()
    system, folder = "android" if facts["android"] else "linux", results.folder / "binaries"
    return fetch.fetch(args.fetch_binary, system, facts["abis"], folder, refresh=args.refetch)


def _shells(args: argparse.Namespace) -> Sequence[Shell]:
    serials = tuple(dict.fromkeys(split_list(args.serial or "")))  # a duplicate would be measured twice at once
    if args.target == "adb":
        return adb.choose_devices(serials, args.adb)
    if args.target == "host":
        return [Shell()]
    if not serials:
        raise BenchError("--serial=user@host is missing; name the board to connect to")
    return [SshShell(serial, args.ssh) for serial in serials]


if __name__ == "__main__":
    sys.exit(main())

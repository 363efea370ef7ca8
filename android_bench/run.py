"""Times `.tflite` files on phones, boards or this machine: `python -m android_bench.run --models=FOLDER`."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from . import adb, device_info, fetch, report
from .device_target import Care, DeviceTarget
from .plan import ANY_CORE, DELEGATES, BenchError, Plan, find_models, parse_threads, read_models, split_list
from .results import Results
from .run_progress import Stop, tell
from .session import Target, bench
from .shell import Shell
from .ssh import Ssh
from .terminal_table import closing

_EPILOG = """\
All models are timed in rounds, in an order that changes, so that a drift of the device hits all
alike. Every row is appended to rows.jsonl in the output folder as soon as it is measured; the
same command continues a plan that was interrupted. At the end report.html, report.md and
report.csv there show all that the folder holds. docs/phones.md begins at the USB cable.

exit status: 0 all models were timed; 1 some were not; 2 nothing could be started;
130 or 143 stopped by Ctrl-C or SIGTERM (what was measured by then is kept and summed up)"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns the exit status."""
    args = _flags().parse_args(argv)
    try:
        with Stop() as stop:
            failed = _clean(args) if args.clean_only else _run(args, stop)
    except (BenchError, TimeoutError) as error:
        tell("error", [error])
        return 2
    except KeyboardInterrupt:  # a second Ctrl-C
        tell("error", ["stopped at once; what was measured is kept"])
        return 130
    return 128 + stop.signal if stop.signal else int(failed)


def _run(args: argparse.Namespace, stop: Stop) -> bool:
    """Returns whether a model could not be timed."""
    if not args.models:
        raise BenchError("--models=FOLDER is missing: which .tflite files to time")
    models, failures = read_models(find_models(args.models))
    tell("error", [] if models else failures)
    plan = Plan(tuple(models), **_options(args))
    results = Results(args.output_dir)
    with results.locked(), ExitStack() as cleanup:
        targets = list(_targets(args, plan, failures, results, cleanup))
        runs = bench(targets, results, stop, args.baseline, args.fresh)
    print(closing(runs, results.folder))
    if any(run["models"] for run in runs):
        report.write(results.folder)
    return any(run["failures"] for run in runs)


def _clean(args: argparse.Namespace) -> bool:
    for shell in _shells(args):
        device_info.clean(shell)
        print(f"{shell.serial}: removed {shell.folder or 'nothing'}")
    return False


def _options(args: argparse.Namespace) -> dict:
    core = args.core or (ANY_CORE if args.target == "host" else "big")
    return {
        **{name: getattr(args, name) for name in ("rounds", "runs", "min_secs", "warmup", "repeats", "seed")},
        "threads": parse_threads(args.threads),
        "delegates": split_list(args.delegates),
        "cores": split_list(core),
        "extras": ("profile",) * args.op_profile + ("memory",) * args.memory,
    }


def _targets(
    args: argparse.Namespace, plan: Plan, failures: list[str], results: Results, cleanup: ExitStack
) -> Iterator[Target]:
    """Yields what to measure on; `cleanup` leaves each device as it was, whatever happens."""
    if args.target == "host" and not (args.benchmark_binary or args.fetch_binary):
        from .host_target import HostTarget

        yield HostTarget(plan, failures)
        return
    if not (args.benchmark_binary or args.fetch_binary):
        raise BenchError("--benchmark_binary=PATH is missing; --fetch_binary downloads the official build")
    names = ("cooldown", "max_temp", "timeout", "patience", "fixed_performance", "clean")
    care = Care(**{name: getattr(args, name) for name in names})
    for shell in _shells(args):
        target = _target(args, shell, plan, care, failures, results)
        cleanup.callback(target.close)
        yield target


def _target(
    args: argparse.Namespace, shell: Shell, plan: Plan, care: Care, failures: list[str], results: Results
) -> DeviceTarget:
    facts = device_info.read_facts(shell)
    if args.benchmark_binary:
        binary = Path(args.benchmark_binary).expanduser()
    else:
        system = "android" if facts["android"] else "linux"
        folder = results.folder / "binaries"
        binary = fetch.fetch(args.fetch_binary, system, facts["abis"], folder, refresh=args.refetch)
    return DeviceTarget(shell, plan, binary, care, failures, facts)


def _shells(args: argparse.Namespace) -> Sequence[Shell]:
    serials = tuple(dict.fromkeys(split_list(args.serial or "")))  # one named twice would be measured twice at once
    if args.target == "adb":
        return adb.choose(serials, args.adb)
    if args.target == "host":
        return [Shell()]
    if not serials:
        raise BenchError("--serial=user@host is missing: which board to reach through ssh")
    return [Ssh(serial, args.ssh) for serial in serials]


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m android_bench.run",
        description="Times .tflite files, side by side and in rounds.",
        epilog=_EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=100),
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--models", metavar="PATHS", help="folder of .tflite files; or files and folders: A,B")
    add("--output_dir", default="results", metavar="FOLDER", help="default: %(default)s")
    where = parser.add_argument_group("where")
    add = where.add_argument
    add("--target", choices=("adb", "ssh", "host"), default="adb", help="phones (default), boards, this machine")
    add("--serial", metavar="A,B", help="of `adb devices`, or all; for ssh: user@host")
    add("--benchmark_binary", metavar="PATH", help="the TFLite benchmark tool, built for the device")
    add("--fetch_binary", nargs="?", const="litert", choices=tuple(fetch.URLS), help="download it (default: litert)")
    add("--refetch", action="store_true", help="download it again, to have the newest build")
    add("--adb", default="adb", metavar="PATH", help="the adb client (default: the one on the PATH)")
    add("--ssh", default="ssh", metavar="COMMAND", help='the ssh client, such as "ssh -p 2222"')
    what = parser.add_argument_group("what")
    add = what.add_argument
    add("--threads", default="1", metavar="N", help="interpreter threads, such as 1 or 1,2 (default: 1)")
    add("--core", metavar="WHICH", help="big, little, any, or a hex mask; several: big,little (default: big)")
    add("--delegates", default="xnnpack", metavar="A,B", help=f"of {', '.join(DELEGATES)} (default: xnnpack)")
    add("--op_profile", action="store_true", help="one more launch of each model for the time of each op")
    add("--memory", action="store_true", help="one more launch of each model for its peak memory")
    add("--baseline", metavar="NAME", help="model to compare with (default: first FD-MobileNet, or first)")
    how = parser.add_argument_group("how")
    numbers = {
        "rounds": "times to go round all models",
        "runs": "timed invocations of a model in a round, at least",
        "min_secs": "seconds of timed invocations of a model in a round, at least",
        "warmup": "untimed invocations before them",
        "repeats": "times to repeat a launch that cannot be trusted",
        "seed": "of the order within the rounds",
    }
    for name, text in numbers.items():
        value = getattr(Plan, name)
        how.add_argument(f"--{name}", type=type(value), default=value, metavar="N", help=f"{text} (default: {value})")
    cares = {
        "cooldown": "seconds of rest before each launch",
        "max_temp": "degrees Celsius to cool down to before each launch",
        "timeout": "seconds after which a launch is given up",
        "patience": "seconds to wait for a device that drops off",
    }
    for name, text in cares.items():
        value = getattr(Care, name)
        default = "any" if value is None else f"{value:g}"
        how.add_argument(f"--{name}", type=float, default=value, metavar="N", help=f"{text} (default: {default})")
    add = how.add_argument
    add("--fixed_performance", action=argparse.BooleanOptionalAction, default=True, help="hold a phone's clocks")
    add("--fresh", action="store_true", help="start anew instead of continuing an interrupted plan")
    add("--clean", action="store_true", help="remove our files from the device at the end")
    add("--clean_only", action="store_true", help="remove them now, and time nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())

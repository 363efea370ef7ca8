"""Which ops of a model a delegate runs, according to the benchmark tool's output.

If a delegate is missing, fails or takes no ops, the tool falls back to the CPU and still exits with status 0. So a time
is only attributed to a delegate if the output proves that it took ops.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .errors import BenchError

# The runtime's names of each delegate; LITERT_CL, LITERT_WEBGPU and others are LiteRT's GPU delegates.
_NAMES = {
    "xnnpack": re.compile(r"xnnpack", re.IGNORECASE),
    "gpu": re.compile(r"gpu|metal|vulkan|opencl|opengl|litert_(cl|gl)", re.IGNORECASE),
    "npu": re.compile(r"dispatch|npu", re.IGNORECASE),  # DispatchDelegate, for every vendor
    "nnapi": re.compile(r"nnapi", re.IGNORECASE),
}
_ANY = re.compile("")
_REPLACING = re.compile(
    r"Replacing (\d{1,9})(?: out of (\d{1,9}))? node\(s\) with delegate \((.*?)\) node, "
    r"yielding (\d{1,9}) partitions?(.*)"
)
_APPLIED = re.compile(
    r"applied (\S+) delegate, and the model graph will be (completely|partially) executed (?:by|w/|with) the delegate"
    r"(?: w/ (\d{1,9}) delegate kernels)?",
    re.IGNORECASE,
)
_BARELY_APPLIED = re.compile(r"\bapplied (\S+) delegate\.", re.IGNORECASE)  # TF 1.14 to 2.1: it may have taken nothing
_GPU_OPS = re.compile(
    r"(\d{1,9}) operations will run on the GPU, and the remaining (\d{1,9})(?: operations will run)? on the CPU"
)
_GPU_KERNELS = re.compile(r"Created (\d{1,9}) GPU delegate kernels")
# An NPU's compiler plugin first replaces ops of the model with ops that the dispatch delegate then takes:
# litert/compiler/plugin/compiler_plugin.cc in google-ai-edge/LiteRT.
_COMPILED = re.compile(r"Partitioned subgraph<(\d{1,9})>, selected (\d{1,9}) ops, from a total of (\d{1,9}) ops")
_RESTORED = "Restored original execution plan"  # the last delegate failed and is gone
_REFUSALS = (
    re.compile(
        r"Though (\S+) delegate is (?:explicitly )?applied, the model graph will not be executed", re.IGNORECASE
    ),
    re.compile(r"(\S+) acceleration is unsupported", re.IGNORECASE),
    re.compile(r"fail(?:ed)? to apply (?:the )?(\S+) delegate", re.IGNORECASE),
    re.compile(r"(NPU|GPU) accelerator could not be loaded", re.IGNORECASE),
    re.compile(r"Failed to create a (dispatch) delegate kernel", re.IGNORECASE),
    re.compile(r"(NNAPI) accelerators available: \[nnapi-reference\]"),  # which is the CPU
)
_REASON = re.compile(
    r"unsupported|not supported|no dispatch library|no compiler plugin|no usable|"
    r"could ?n[o']t|cannot|can't|unable|fail|no such|not found|fall(ing)? back|nothing",
    re.IGNORECASE,
)
_WAY_OUT = "use --delegates=xnnpack for the CPU, or a benchmark tool, device and model that support the delegate"


@dataclass(frozen=True)
class Delegation:
    """The part of a model that a delegate runs; values are None if the benchmark tool does not print them.

    Attributes:
        ops: Number of ops that the delegate took.
        of: Number of ops in the model.
        partitions: Number of parts into which the graph was split, including those that stay on the CPU.
        kernels: Number of parts that the delegate runs.
        whole: Whether the delegate took all ops.
    """

    ops: int | None = None
    of: int | None = None
    partitions: int | None = None
    kernels: int | None = None
    whole: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the known values by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def describe(delegation: Mapping[str, Any]) -> str:
    """Describes a delegation, such as `20 of 31 ops, 7 partitions`; "" if nothing is known.

    Args:
        delegation: See `Delegation.to_json`.
    """
    if not delegation:
        return ""
    parts = [f"{ops_taken(delegation)} ops"]
    if not delegation.get("whole"):
        parts += [
            f"{delegation[name]} {name if delegation[name] != 1 else name[:-1]}"
            for name in ("partitions", "kernels")
            if delegation.get(name)
        ][:1]
    return ", ".join(parts)


def ops_taken(delegation: Mapping[str, Any]) -> str:
    """Returns the number of ops taken, such as `20 of 31`, as far as known; "" if nothing is known.

    Args:
        delegation: See `Delegation.to_json`.
    """
    if not delegation:
        return ""
    if delegation.get("ops") is None:
        whole = delegation.get("whole")
        return "?" if whole is None else "all" if whole else "part of the"
    return f"{delegation['ops']} of {delegation.get('of') or '?'}"


def read_delegation(lines: Sequence[str], delegate: str) -> Delegation | None:
    """Returns the part of the model that a delegate took; None if the output does not show that it took anything.

    Args:
        lines: Output of the benchmark tool, without log prefixes.
        delegate: One of `plan.DELEGATES` except `none`.

    Raises:
        BenchError: If the output shows that the delegate took nothing.
    """
    name = _NAMES.get(delegate, _ANY)
    kept = _without_failures(lines)
    _check_not_refused(lines, delegate, name)
    counted = _counted(kept, name)
    if counted and delegate == "npu":
        return _compiled(kept, counted)
    return counted or _applied(kept, name) or _kernels(kept, delegate) or _barely_applied(kept, name)


def check_delegation(lines: Sequence[str], delegate: str) -> Delegation | None:
    """Returns the part that the requested delegate took; None for `none`, and for an XNNPACK that prints nothing.

    Args:
        lines: Output of the benchmark tool, without log prefixes.
        delegate: One of `plan.DELEGATES`.

    Raises:
        BenchError: If the output does not prove that the delegate took ops; for `none`, if a delegate took ops.
    """
    if delegate == "none":
        _check_no_delegate(lines)
        return None
    found = read_delegation(lines, delegate)
    if found is None and delegate != "xnnpack":  # some builds apply XNNPACK by default without printing so
        raise BenchError(_nothing_taken(lines, delegate, "nothing in the tool's output shows that it took any op"))
    return found


def _check_no_delegate(lines: Sequence[str]) -> None:
    for line in _without_failures(lines):
        match = _REPLACING.search(line)
        if match and int(match[1]):
            raise BenchError(
                f"--delegates=none, but {match[3]} took {match[1]} ops; use a benchmark tool that can run without it, "
                "such as --fetch_binary=classic"
            )


def _check_not_refused(lines: Sequence[str], delegate: str, name: re.Pattern[str]) -> None:
    for line in lines:
        for refusal in _REFUSALS:
            match = refusal.search(line)
            if match and name.search(match[1]):
                raise BenchError(_nothing_taken(lines, delegate, line.strip().rstrip(".")))
        replacing, on_gpu = _REPLACING.search(line), _GPU_OPS.search(line)
        if replacing and name.search(replacing[3]) and not int(replacing[1]):
            raise BenchError(_nothing_taken(lines, delegate, line.strip().rstrip(".")))
        if on_gpu and delegate == "gpu" and not int(on_gpu[1]):
            raise BenchError(_nothing_taken(lines, delegate, line.strip().rstrip(".")))


def _nothing_taken(lines: Iterable[str], delegate: str, otherwise: str) -> str:
    """Returns the error message, with the tool's own reason if it prints one."""
    name = _NAMES.get(delegate, _ANY)
    words = [line.strip().rstrip(".") for line in lines if _REASON.search(line) and _mentions(line, name)]
    reason = otherwise if otherwise in words or not words else f"{otherwise} ({words[-1]})"
    return f"the delegate {delegate} takes no ops of this model, which would run on the CPU: {reason}; {_WAY_OUT}"


def _mentions(line: str, name: re.Pattern[str]) -> bool:
    return bool(name.search(line) or "delegate" in line.lower())


def _without_failures(lines: Iterable[str]) -> list[str]:
    """Removes the lines about delegates that failed to apply and were rolled back."""
    kept: list[str] = []
    for line in lines:
        if _RESTORED in line:
            last = max((number for number, other in enumerate(kept) if _REPLACING.search(other)), default=len(kept))
            kept = [other for other in kept[:last] if not _GPU_KERNELS.search(other)]
        else:
            kept.append(line)
    return kept


def _counted(lines: Sequence[str], name: re.Pattern[str]) -> Delegation | None:
    """Reads the runtime's lines, one for each subgraph; the last line about a subgraph counts."""
    subgraphs = {}
    for match in filter(None, map(_REPLACING.search, lines)):
        if name.search(match[3]):
            subgraphs[match[5]] = match
    if not subgraphs:
        return None
    ops, partitions = (sum(int(match[group]) for match in subgraphs.values()) for group in (1, 4))
    if any(match[2] is None for match in subgraphs.values()):  # TF 1.14 to 2.4 print only the number of ops taken
        whole = partitions == len(subgraphs)
        return Delegation(ops, ops if whole else None, partitions, None, whole)
    of = sum(int(match[2]) for match in subgraphs.values())
    return Delegation(ops, of, partitions, None, ops == of)


def _compiled(lines: Iterable[str], counted: Delegation) -> Delegation:
    """Returns the ops of the model that an NPU took; ops of the file if the model was compiled ahead of time."""
    subgraphs = {match[1]: match for match in map(_COMPILED.search, lines) if match}
    if not subgraphs:
        return counted
    ops, of = (sum(int(match[group]) for match in subgraphs.values()) for group in (2, 3))
    return Delegation(ops, of, counted.partitions, None, ops == of and counted.whole)


def _applied(lines: Sequence[str], name: re.Pattern[str]) -> Delegation | None:
    """Reads the classic tool's line."""
    for match in filter(None, map(_APPLIED.search, lines)):
        if name.search(match[1]):
            whole, kernels = match[2].lower() == "completely", int(match[3]) if match[3] else None
            if kernels == 0:
                return None
            ops, of = _gpu_ops(lines) if name is _NAMES["gpu"] and not whole else (None, None)
            return Delegation(ops, of, None, kernels or (1 if whole else None), whole)
    return None


def _kernels(lines: Sequence[str], delegate: str) -> Delegation | None:
    """Reads the line that the GPU delegate prints when a part of the graph is ready to run."""
    created = [int(match[1]) for match in map(_GPU_KERNELS.search, lines) if match] if delegate == "gpu" else []
    if not sum(created):
        return None
    ops, of = _gpu_ops(lines)
    return Delegation(ops, of, None, sum(created), None if of is None else ops == of)


def _barely_applied(lines: Sequence[str], name: re.Pattern[str]) -> Delegation | None:
    applied = any(match and name.search(match[1]) for match in map(_BARELY_APPLIED.search, lines))
    ops, of = _gpu_ops(lines)
    if not (applied and name is _NAMES["gpu"] and ops):
        return None
    return Delegation(ops, of, None, None, ops == of)


def _gpu_ops(lines: Iterable[str]) -> tuple[int | None, int | None]:
    """Returns the number of ops that the GPU takes and the total; (None, None) unless it takes only some."""
    matches = [match for match in map(_GPU_OPS.search, lines) if match]
    if not matches:
        return None, None
    ops, rest = int(matches[-1][1]), int(matches[-1][2])
    return ops, ops + rest

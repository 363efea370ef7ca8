"""Profile and memory of a model in LiteRT on this machine, measured in a separate process.

    python -m android_bench.host_profiler profile|memory MODEL.tflite THREADS RUNS

prints one line of JSON: `samples_ns`, the latency of each invocation, and `ops` (type, median ms and name of each op)
or `memory_mb` (the memory that the model added to the process). A separate process contains no memory of other models,
and if a future LiteRT changes the layout of its C structures, only that process crashes.
"""

import ctypes
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from ctypes import byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from .errors import BenchError
from .plan import Job
from .random_inputs import fill_inputs

_TIMEOUT = 600  # seconds
_WARMUP = 3
_CPU = 1  # value of LiteRtHwAccelerators
_OP, _DELEGATED_OP = 2, 8  # types of profiler events; a delegate that reports its ops has no separate event
_INVOKE = "Invoke"


def run_in_subprocess(job: Job, kind: str, runs: int) -> dict[str, Any]:
    """Runs this program on a model; returns its parsed output.

    Args:
        job: The model and the number of threads.
        kind: `profile` or `memory`.
        runs: Number of timed invocations.

    Raises:
        BenchError: If it failed.
    """
    module = f"{__package__}.host_profiler"  # the package's name differs between a clone and an installation
    command = [sys.executable, "-m", module, kind, str(job.model.path), str(job.threads), str(runs)]
    root = Path(__file__).parents[module.count(".")]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{job.model.path}: the {kind} took more than {_TIMEOUT} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise BenchError(f"{job.model.path}: the {kind} failed with status {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


# --- memory ------------------------------------------------------------------------------------------------


def memory(path: str, threads: int, runs: int) -> dict[str, Any]:
    """Memory that a model adds to a process with LiteRT loaded: after loading, after the runs, and at peak, in MB."""
    from ai_edge_litert.interpreter import Interpreter

    Path("/proc/self/clear_refs").write_text("5")  # reset the peak after the imports
    before = _megabytes("VmRSS")
    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    loaded = _megabytes("VmRSS")
    fill_inputs(interpreter)
    samples = _timed(interpreter.invoke, runs)
    found = {"init": loaded, "overall": _megabytes("VmRSS"), "peak": _megabytes("VmHWM")}
    return {"samples_ns": samples, "memory_mb": {name: value - before for name, value in found.items()}}


def _megabytes(name: str) -> float:
    (kilobytes,) = re.findall(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(kilobytes) / 1024


def _timed(invoke: Callable[[], object], runs: int) -> list[int]:
    samples = []
    for _ in range(_WARMUP):
        invoke()
    for _ in range(runs):
        start = time.perf_counter_ns()
        invoke()
        samples.append(time.perf_counter_ns() - start)
    return samples


# --- profile -----------------------------------------------------------------------------------------------


class _Event(ctypes.Structure):
    """An event of LiteRT's profiler; times in microseconds."""

    _fields_ = [
        ("tag", c_char_p),
        ("type", c_int),
        ("start", c_uint64),
        ("elapsed", c_uint64),
        ("memory", c_uint64 * 6),
        ("metadata", c_int64 * 2),
        ("source", c_int),
    ]


class _TensorType(ctypes.Structure):
    """Type and shape of a tensor."""

    _fields_ = [("element", c_int), ("rank", c_uint32), ("sizes", c_int32 * 8), ("strides", c_uint32 * 8)]


class _Library:
    """LiteRT's C interface."""

    def __init__(self) -> None:
        import ai_edge_litert

        self._library = ctypes.CDLL(str(Path(ai_edge_litert.__file__).parent / "libLiteRt.so"))
        self._c = ctypes.CDLL(None)
        self._c.strdup.restype = c_void_p

    def call(self, name: str, *arguments: Any) -> None:
        """Calls `LiteRt<name>`; raises BenchError unless it returns 0."""
        if status := getattr(self._library, f"LiteRt{name}")(*arguments):
            raise BenchError(f"LiteRt{name} failed with status {status}")

    def get(self, name: str, *arguments: Any) -> c_void_p:
        """Calls a function whose last argument is a pointer to a handle; returns the handle."""
        handle = c_void_p()
        self.call(name, *arguments, byref(handle))
        return handle

    def add_options(self, options: c_void_p, identifier: bytes, toml: bytes) -> None:
        """Adds options; LiteRT takes ownership of them."""
        copy = c_void_p(self._c.strdup(toml))
        self.call("AddOpaqueOptions", options, self.get("CreateOpaqueOptions", identifier, copy, self._c.free))


class ProfiledModel:
    """A model in LiteRT with profiling enabled, on images of zeros, which take as long as other images.

    Args:
        path: The .tflite file.
        threads: Number of threads.

    Raises:
        BenchError: If LiteRT cannot load it.
    """

    def __init__(self, path: str, threads: int) -> None:
        library = self._library = _Library()
        environment = library.get("CreateEnvironment", 0, None)
        model = library.get("CreateModelFromFile", environment, path.encode())
        options = library.get("CreateOptions")
        library.call("SetOptionsHardwareAccelerators", options, _CPU)
        library.add_options(options, b"runtime_options_string", b"enable_profiling = true\n")
        library.add_options(options, b"xnnpack", b"num_threads = %d\n" % threads)
        compiled = self._compiled = library.get("CreateCompiledModel", environment, model, options)
        self._inputs, self._outputs = (
            _buffers(library, environment, model, compiled, kind) for kind in ("Input", "Output")
        )
        for _ in range(_WARMUP):
            self._invoke()
        self._profiler = library.get("CompiledModelGetProfiler", compiled)

    def invoke(self) -> tuple[int, list[tuple[str, int]]]:
        """Runs the model once; returns the result of `_ops`."""
        self._library.call("ResetProfiler", self._profiler)
        self._library.call("StartProfiler", self._profiler)
        self._invoke()
        self._library.call("StopProfiler", self._profiler)
        return _ops(_events(self._library, self._profiler))

    def _invoke(self) -> None:
        zero, one = c_size_t(0), c_size_t(1)
        self._library.call("RunCompiledModel", self._compiled, zero, one, self._inputs, one, self._outputs)


def profile(path: str, threads: int, runs: int) -> dict[str, Any]:
    """Time of each op, including ops inside XNNPACK."""
    model = ProfiledModel(path, threads)
    rounds = [model.invoke() for _ in range(runs)]  # one by one, since the profiler's buffer is limited
    return {"samples_ns": [1000 * total for total, _ in rounds], "ops": _medians([ops for _, ops in rounds])}


def _buffers(library: _Library, environment: c_void_p, model: c_void_p, compiled: c_void_p, kind: str) -> Any:
    """Creates the buffer of the only input or output."""
    zero, described = c_size_t(0), _TensorType()
    signature = library.get("GetModelSignature", model, zero)
    tensor = library.get(f"GetSignature{kind}TensorByIndex", signature, zero)
    library.call("GetRankedTensorType", tensor, byref(described))
    needs = library.get(f"GetCompiledModel{kind}BufferRequirements", compiled, zero, zero)
    buffer = library.get("CreateManagedTensorBufferFromRequirements", environment, byref(described), needs)
    return (c_void_p * 1)(buffer.value)


def _events(library: _Library, profiler: c_void_p) -> list[_Event]:
    count = c_int()
    library.call("GetNumProfilerEvents", profiler, byref(count))
    events = (_Event * count.value)()
    library.call("GetProfilerEvents", profiler, count, events)
    return list(events)


def _ops(events: Sequence[_Event]) -> tuple[int, list[tuple[str, int]]]:
    """Returns the duration of the invocation in microseconds, and name and microseconds of each op.

    Raises:
        BenchError: If the ops take longer than the invocation, or either is missing.
    """
    total = [event.elapsed for event in events if event.tag.decode() == _INVOKE and event.type == 1]
    ops = [(event.tag.decode(), event.elapsed) for event in events if event.type in (_OP, _DELEGATED_OP)]
    if len(total) != 1 or not ops or sum(us for _, us in ops) > total[0] + len(ops):  # each is rounded
        raise BenchError("the profiler of this LiteRT version is not supported; use LiteRT 2.3, or --benchmark_binary")
    return total[0], ops


def _medians(rounds: Sequence[Sequence[tuple[str, int]]]) -> list[tuple[str, float, str]]:
    """Returns type, median ms and number of each op."""
    return [
        (ops[0][0], statistics.median(us for _, us in ops) / 1000, f"op {number}")
        for number, ops in enumerate(zip(*rounds, strict=True))
    ]


def main(argv: Sequence[str]) -> None:
    """Prints the profile or the memory of a model; see the module's docstring."""
    kind, path, threads, runs = argv
    try:
        print(json.dumps({"profile": profile, "memory": memory}[kind](path, int(threads), int(runs))))
    except (BenchError, ValueError, RuntimeError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Fixtures: tiny models, rows with given samples, results, and devices with a real adbd."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fd_keras.android_bench import run
from fd_keras.android_bench.results import Results
from fd_keras.android_bench.rows import Row
from fd_keras.android_bench.summary import describe

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FIXTURES = HERE.parent / "fixtures/benchmark_model"
CPU = "/sys/devices/system/cpu"
FAILSAFE_SECS = 600  # much longer than any test; ends a test that hangs


def wait_until(condition):
    """Waits for a condition. The timeout is only for tests that hang, since the machine may be busy."""
    deadline = time.monotonic() + FAILSAFE_SECS
    while not condition():
        assert time.monotonic() < deadline, f"condition not met within {FAILSAFE_SECS} s"
        time.sleep(0.01)


@pytest.fixture(scope="session", name="wait_until")
def _wait_until():
    return wait_until


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """A folder with a float32 and an int8 model, one without a static size and one for larger images; read-only."""
    folder = Path(shutil.copytree(FIXTURES / "models", tmp_path_factory.mktemp("converted") / "models"))
    facts = {"arch": "fd_mobilenet", "alpha": 0.25, "recipe": "float32", "macs": 42, "other": "not in rows"}
    (folder / "fd_mobilenet_0.25_float32.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture
def models(converted, tmp_path) -> Path:
    """A folder with the float32 and the int8 model, which a test may modify."""
    return Path(shutil.copytree(converted, tmp_path / "models", ignore=shutil.ignore_patterns("*.bin")))


def row_of(model, samples_ns, round=1, recipe="float32", threads=1, **other):
    """Returns a row with given samples; `other` has the keys of rows.jsonl."""
    values = {
        **{"run": "r1", "target": "host", "device": "cpu", "engine": "e", "sha256": "0", "size_bytes": 2500},
        **{"facts": {}, "place": 1, "started": "s"},
    }

    latency = vars(describe(samples_ns))
    named = {"model": model, "file": f"{model}.tflite", "recipe": recipe, "threads": threads, "round": round}
    return Row.from_json({**values, **named, **latency, **other})


@pytest.fixture
def make_row():
    """See `row_of`."""
    return row_of


COUNTS = {"instructions": 1000, "simd": 600, "dot": 0, "matmul": 0}
COUNTS |= {"loads": 300, "stores": 50, "l1_misses": 20, "l2_misses": 5}


def count_row_of(model, recipe="float32", device="cortex-a53", facts=None, flags=(), ops=(), **counts):
    """Returns a row of a counted launch; `COUNTS` are the default counts."""
    line = {
        **{"run": "r1", "target": "emulator", "device": device, "engine": "e", "sha256": "0", "size_bytes": 2500},
        **{"facts": facts or {}, "round": 1, "place": 1, "started": "s", "threads": 1, "runs": 2, "kind": "count"},
        **{"model": model, "file": f"{model}.tflite", "recipe": recipe, "flags": list(flags), "machine": "core"},
        **{"counts": {**COUNTS, **counts}, "counted_ops": list(ops)},
    }
    return Row.from_json(line)


@pytest.fixture
def make_count_row():
    """See `count_row_of`."""
    return count_row_of


MS = {
    ("fd_mobilenet", 1.0): 30.0, ("mobilenet", 0.5): 36.0, ("shufflenet", 1.0): 45.0, ("fd_shufflenet", 1.0): 33.0,
    ("fd_mobilenet", 0.5): 10.0, ("mobilenet", 0.25): 11.0, ("shufflenet", 0.5): 16.0,
    ("fd_mobilenet", 0.25): 4.0, ("mobilenet", 0.125): 4.4, ("shufflenet", 0.25): 8.0,
}  # fmt: skip


TOP1 = {
    ("fd_mobilenet", 1.0): 65.3,
    ("fd_mobilenet", 0.5): 56.2,
    ("fd_mobilenet", 0.25): 45.1,
    ("mobilenet", 0.125): 39.6,
}


OPS = [["CONV_2D", 1.5, "stem"], ["DEPTHWISE_CONV_2D", 0.5, "dw"], ["Transpose (ND, X8)", 0.25, "shuffle<1>"]]


@pytest.fixture(scope="session")
def milliseconds():
    """See `MS`."""
    return MS


@pytest.fixture(scope="session")
def _written_results(tmp_path_factory):
    kept = Results(tmp_path_factory.mktemp("written"))
    for device, kind, scale in (("R58M", "phone", 1), ("here", "host", 1 / 3)):
        target = "adb" if kind == "phone" else "host"
        environment = {"device": f"Some {kind} <&>", "kind": kind, "engine": "benchmark_model", "cores": 8}
        environment["android"] = "14"
        environment["state"] = {"temperature": 31.0, "governor": {"0": "schedutil"}, "battery": {"percent": 80}}
        start = {"run": device, "target": target, "device": device, "environment": environment, "state": "interrupted"}
        kept.append_event(
            **start, options={"rounds": 3, "runs": 50, "min_secs": 1.0}, baseline="fd_mobilenet_1.0_224_float32"
        )
        for number in (1, 2, 3):
            for (arch, alpha), ms in MS.items():
                for recipe, share in (("float32", 1), ("int8", 0.5)):
                    median = ms * scale * share * 1e6 * (1 + 0.01 * number)
                    facts = {"arch": arch, "alpha": alpha}
                    facts |= {"paper_top1": TOP1[arch, alpha]} if (arch, alpha) in TOP1 else {}
                    common = {"run": device, "target": target, "device": device, "facts": facts, "round": number}
                    common |= {"after": {"temperature": 36.0, "battery": {"percent": 78}}, "core": "big"}
                    kept.append_row(row_of(f"{arch}_{alpha}_224", [median], recipe=recipe, **common))
        extra = {"run": device, "target": target, "device": device, "core": "big", "kind": "profile", "ops": OPS}
        kept.append_row(row_of("fd_mobilenet_1.0_224", [1], round=4, **extra))
        warnings = ["the <phone> is throttled"] if kind == "phone" else []
        kept.append_event(run=device, state="complete", warnings=warnings, failures=[])
    return kept.folder


@pytest.fixture
def results(_written_results, tmp_path) -> Path:
    """A folder with a run on a phone and one on this machine, which a test may modify."""
    return Path(shutil.copytree(_written_results, tmp_path / "results"))


class Phone:
    """A test device: a Debian with a real adbd.

    Attributes:
        serial: Serial in adb.
        root: Root folder of the device, as a path on this machine.
        adb: Path of the adb client.
        ssh: Command of the ssh client.
    """

    def __init__(self, work: Path, port: int, adb: Path, ssh: str) -> None:
        self.port, self.serial, self.adb, self.ssh = port, f"127.0.0.1:{port}", str(adb), ssh
        self.root, self._down, self._is_off = (work / f"{port}{suffix}" for suffix in ("", ".down", ".off"))

    def fake(self, **settings):
        """Writes files to /fake, which control the fake benchmark tool; None removes a file."""
        for name, value in settings.items():
            path = self.root / "fake" / name
            path.unlink(missing_ok=True)
            if value is not None:
                path.write_text(str(value))

    def write(self, path, text, mode=0o644):
        """Writes a file on the device, such as one of /sys."""
        path = self.root / path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def set_cores(self, khz=(1_800_000, 2_400_000)):
        """Sets the maximum frequencies of the cores; only cores 0 and 1 exist."""
        self.write(f"{CPU}/online", f"0-{len(khz) - 1}\n")
        for core, value in enumerate(khz):
            for name in ("cpuinfo_max_freq", "scaling_max_freq", "scaling_cur_freq"):
                self.write(f"{CPU}/cpu{core}/cpufreq/{name}", f"{value}\n")
            self.write(f"{CPU}/cpu{core}/cpufreq/scaling_governor", "schedutil\n")

    def write_command(self, name, script):
        """Installs an Android command, such as getprop, on the device."""
        self.write(f"/usr/local/bin/{name}", f"#!/bin/sh\n{script}\n", 0o755)

    def calls(self):
        """The launches of the tool: (allowed cores, arguments)."""
        path = self.root / "fake/calls"
        return [line.split(" ", 1) for line in path.read_text().splitlines()] if path.exists() else []

    def at_launch(self, number, action):
        """Calls a function during a launch of the tool.

        Args:
            number: Number of the launch, from 1.
            action: Function to call; the launch waits until it returns.
        """
        gate = self.root / f"fake/gate.{number}"
        os.mkfifo(gate)

        def act():
            with gate.open("w"):  # waits until the tool has opened it
                action()

        threading.Thread(target=act, daemon=True).start()

    def hang(self, *numbers):
        """Makes the launches with these numbers hang."""
        for number in numbers:
            os.mkfifo(self.root / f"fake/gate.{number}")

    def switch_off(self):
        """Switches the device off, as if it was unplugged, and waits until it is off."""
        self._down.touch()
        wait_until(self._is_off.exists)

    def switch_on(self):
        self._down.unlink(missing_ok=True)

    def adb_shell(self, command):
        return subprocess.run([self.adb, "-s", self.serial, "shell", command], capture_output=True, text=True)

    def reset(self):
        """Resets the device."""
        self.switch_on()
        for name in ("fake", "data/local/tmp", "sys", "usr/local/bin", "tmp/android_bench"):
            _empty(self.root / name)
        (self.root / "fake").mkdir(exist_ok=True)
        wait_until(self._connected)

    def _connected(self):
        if self.adb_shell("true").returncode == 0:
            return True
        for command in ("disconnect", "connect"):
            subprocess.run([self.adb, command, self.serial], capture_output=True)
        return False


def _empty(folder):
    """Empties a folder without removing it, since file systems may be mounted in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _missing():
    """Why test devices are not available on this machine, or None."""
    if not (ROOT / ".device").is_dir():
        return "needs a test device: make device (as root, on Debian)"
    if os.geteuid() != 0:
        return "needs root, for a network namespace: run the tests as root"
    programs = [name for name in ("adb", "unshare", "nsenter") if not shutil.which(name)]
    if programs:
        return f"needs {programs[0]}: make device"
    if subprocess.run(["unshare", "-n", "-m", "-p", "-f", "true"], capture_output=True).returncode:
        return "needs network namespaces, which this machine forbids: run the tests in a virtual machine"
    return None


@pytest.fixture(scope="session")
def _phones(tmp_path_factory):
    """Two devices and the key for ssh. Their ports are in a separate network namespace per test process."""
    reason = _missing()
    if reason:
        pytest.skip(reason)
    work, port = tmp_path_factory.mktemp("devices"), 5599
    ports = [port, port + 1]
    runner = [sys.executable, HERE / "run_devices.py", ROOT / ".device", work, *map(str, ports)]
    environment = {**os.environ, "ANDROID_ADB_SERVER_PORT": "5038"}
    isolated = ["unshare", "-n", "-m", "-p", "-f", "--kill-child"]
    process = subprocess.Popen([*isolated, *runner], env=environment, stdin=subprocess.PIPE)
    clients = tmp_path_factory.mktemp("clients")  # outside `work`, which is another folder in the namespace
    adb, key = clients / "adb", clients / "key"
    adb.write_text(
        f'#!/bin/sh\nANDROID_ADB_SERVER_PORT=5038 HOME={clients} exec nsenter -t {process.pid} -n adb "$@"\n'
    )
    adb.chmod(0o755)
    try:
        seen = Path(f"/proc/{process.pid}/root{work}")
        wait_until(lambda: (seen / "ready").exists() or process.poll() is not None)
        assert process.poll() is None, "the test devices did not start"
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        options += " -o KexAlgorithms=curve25519-sha256"  # faster than the default
        ssh = f"nsenter -t {process.pid} -n ssh -i {key} {options} -p "
        yield [Phone(seen, port, adb, ssh + str(port + 1000)) for port in ports], key
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def phones(_phones):
    """Two devices, both connected and reset."""
    for phone in _phones[0]:
        phone.reset()
    return _phones[0]


@pytest.fixture
def phone(phones):
    """One device; the other is switched off and not known to adb."""
    subprocess.run([phones[1].adb, "disconnect", phones[1].serial], capture_output=True)
    return phones[0]


@pytest.fixture
def board(_phones, phones):
    """A device that accepts ssh connections."""
    key = _phones[1]
    if not shutil.which("ssh-keygen"):
        pytest.skip("needs ssh: make device")
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    phones[0].write("/root/.ssh/authorized_keys", key.with_suffix(".pub").read_text(), 0o600)
    return phones[0]


@pytest.fixture(scope="session")
def tool():
    """The fake benchmark tool."""
    return FIXTURES / "fake_benchmark_model.sh"


@pytest.fixture
def fixture_text(tool):
    """A function that returns real output of the benchmark tool, by file name."""
    return lambda name: (tool.parent / name).read_text()


@pytest.fixture
def flags_for(models, tool, tmp_path):
    """A function that returns the flags for one round on a device; see `flags`."""
    where = [f"--models={models}", f"--output_dir={tmp_path / 'out'}", f"--benchmark_binary={tool}"]
    how = ["--rounds=1", "--runs=4", "--cooldown=0", "--warmup=1", f"--patience={FAILSAFE_SECS}"]
    return lambda phone: [*where, *how, f"--adb={phone.adb}"]


@pytest.fixture
def flags(phone, flags_for):
    """Flags for one round on the device, without pauses; the results go to tmp_path / "out"."""
    return flags_for(phone)


@pytest.fixture
def bench(flags):
    """A function that runs the program on the device with additional flags; returns its exit status."""
    return lambda *others: run.main([*flags, *others])

"""Two tiny models, one of them with a sidecar, rows made by hand, and devices with a real adbd."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from fd_keras.android_bench.rows import Row, describe

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FLOAT, INT8 = "fd_mobilenet_0.25_float32", "mobilenet_0.5_int8"


def _convert(size, int8=False):
    """Returns the bytes of a small conv net, made with TensorFlow."""
    import keras
    import numpy as np
    import tensorflow as tf

    image = keras.Input((size, size, 3), batch_size=1)
    # Weights above 0: of random sign, all four sums may be negative, and XNNPACK refuses a range of nothing but zeros.
    positive = keras.initializers.RandomUniform(0, 1, seed=0)
    features = keras.layers.Conv2D(4, 3, strides=2, activation="relu", kernel_initializer=positive)(image)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(features))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([np.full((1, size, size, 3), v, "f4")] for v in (0, 255))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """A folder of a float32, an int8, one without a static size and one for larger images; do not write into it."""
    folder = tmp_path_factory.mktemp("converted")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        (folder / f"{FLOAT}.tflite").write_bytes(_convert(16))
        (folder / f"{INT8}.tflite").write_bytes(_convert(16, int8=True))
        (folder / "dynamic.bin").write_bytes(_convert(None))
        (folder / "large.bin").write_bytes(_convert(160))
    facts = {"arch": "fd_mobilenet", "alpha": 0.25, "recipe": "float32", "macs": 42, "other": "not in rows"}
    (folder / f"{FLOAT}.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture
def models(converted, tmp_path) -> Path:
    """A folder of the float32 and the int8 model, for one test to spoil."""
    return Path(shutil.copytree(converted, tmp_path / "models", ignore=shutil.ignore_patterns("*.bin")))


@pytest.fixture
def make_row():
    """A function that returns a row of given samples."""

    def make(model, samples_ns, round=1, recipe="float32", threads=1, **other):
        values = {
            "run": "r1", "target": "host", "device": "cpu", "engine": "e", "file": f"{model}.tflite",
            "sha256": "0", "size_bytes": 2500, "facts": {}, "place": 1, "started": "s", "load": None,
            "model": model, "recipe": recipe, "threads": threads, "round": round,
        }  # fmt: skip
        return Row(**{**values, **describe(samples_ns), "samples_ns": samples_ns, **other})

    return make


class Phone:
    """A test device: a real adbd on a Debian of its own.

    Attributes:
        serial: As adb knows it.
        root: Its root folder, as seen from here.
        adb, ssh: Programs that reach it.
    """

    def __init__(self, work: Path, port: int, adb: Path, ssh: str) -> None:
        self.port, self.serial, self.adb, self.ssh = port, f"127.0.0.1:{port}", str(adb), ssh
        self.root, self._down = work / str(port), work / f"{port}.down"

    def fake(self, **settings):
        """Sets files in /fake: what the benchmark tool on the device does. None removes one."""
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

    def calls(self):
        """The launches of the tool: (cores it may use, arguments)."""
        path = self.root / "fake/calls"
        return [line.split(" ", 1) for line in path.read_text().splitlines()] if path.exists() else []

    def switch_off(self):
        self._down.touch()

    def switch_on(self):
        self._down.unlink(missing_ok=True)

    def adb_shell(self, command):
        return subprocess.run([self.adb, "-s", self.serial, "shell", command], capture_output=True, text=True)

    def reset(self):
        """Makes it as new."""
        self.switch_on()
        for name in ("fake", "data/local/tmp", "sys", "usr/local/bin", "tmp/android_bench"):
            _empty(self.root / name)
        deadline = time.monotonic() + 20
        while self.adb_shell("true").returncode:
            assert time.monotonic() < deadline, "the test device does not come up"
            subprocess.run([self.adb, "disconnect", self.serial], capture_output=True)
            subprocess.run([self.adb, "connect", self.serial], capture_output=True)
            time.sleep(0.1)


def _empty(folder):
    """Empties a folder; removing it would unmount what is mounted there."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _missing():
    """Why there can be no test device here, or None."""
    if not (ROOT / ".device").is_dir():
        return "no .device: `make device` makes it (as root, on Debian)"
    if os.geteuid() != 0:
        return "test devices need root, for a namespace of their own"
    programs = [name for name in ("adb", "unshare", "nsenter") if not shutil.which(name)]
    if programs:
        return f"{programs[0]} is not installed"
    if subprocess.run(["unshare", "-n", "-m", "-p", "-f", "true"], capture_output=True).returncode:
        return "this machine does not allow namespaces"
    return None


@pytest.fixture(scope="session")
def _phones(tmp_path_factory):
    reason = _missing()
    if reason:
        pytest.skip(reason)
    work, port = tmp_path_factory.mktemp("devices"), 5599
    ports = [port, port + 1]
    runner = [sys.executable, HERE / "run_devices.py", ROOT / ".device", work, *map(str, ports)]
    environment = {**os.environ, "ANDROID_ADB_SERVER_PORT": "5038"}
    isolated = ["unshare", "-n", "-m", "-p", "-f", "--kill-child"]
    process = subprocess.Popen([*isolated, *runner], env=environment, stdin=subprocess.PIPE)
    adb, key = work.parent / "adb", work.parent / "key"
    adb.write_text(
        f'#!/bin/sh\nANDROID_ADB_SERVER_PORT=5038 HOME={work.parent} exec nsenter -t {process.pid} -n adb "$@"\n'
    )
    adb.chmod(0o755)
    try:
        seen = Path(f"/proc/{process.pid}/root{work}")
        deadline = time.monotonic() + 30
        while not (seen / "ready").exists():
            assert time.monotonic() < deadline and process.poll() is None, "the test devices did not start"
            time.sleep(0.05)
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        ssh = f"nsenter -t {process.pid} -n ssh -i {key} {options} -p "
        yield [Phone(seen, port, adb, ssh + str(port + 1000)) for port in ports], key
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def phones(_phones):
    """Two devices, both connected and as new."""
    for phone in _phones[0]:
        phone.reset()
    return _phones[0]


@pytest.fixture
def phone(phones):
    """One device; the other is switched off and unknown to adb."""
    subprocess.run([phones[1].adb, "disconnect", phones[1].serial], capture_output=True)
    return phones[0]


@pytest.fixture
def board(_phones, phones):
    """A device that lets us in through ssh."""
    key = _phones[1]
    if not shutil.which("ssh-keygen"):
        pytest.skip("ssh is not installed")
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    phones[0].write("/root/.ssh/authorized_keys", key.with_suffix(".pub").read_text(), 0o600)
    return phones[0]


@pytest.fixture(scope="session")
def tool():
    """The stand-in for the benchmark tool."""
    return ROOT / "tests/fixtures/benchmark_model/fake_benchmark_model.sh"

"""Runs on two devices, or in two processes, give the same result as on one device."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from fd_keras.training import checkpoint, run
from tests import jax_programs, needs, small_network

ROOT = pathlib.Path(__file__).parents[2]
TWO_CPUS = {"XLA_FLAGS": f"{jax_programs.XLA_FLAGS} --xla_force_host_platform_device_count=2"}


def _command(photos, run_dir, *flags, program=("-m", "tests.training.train_small")):
    return [
        sys.executable, *program, "--recipe=paper", f"--model={small_network.NAME}", "--alpha=0.25",
        f"--data=folder:{photos}", "--image_size=64", "--batch_size=24", "--epochs=1", "--learning_rate=1e-5",
        "--ema_decay=0.5", "--threads=1", f"--run_dir={run_dir}", *flags,
    ]  # fmt: skip


def _environment(backend, **variables):
    common = {
        "PYTHONPATH": str(ROOT),
        "KERAS_BACKEND": backend,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": jax_programs.XLA_FLAGS,
    }
    return os.environ | common | variables


def _train(command, environment):
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def _state(run_dir):
    """Returns all final variables of a run by name."""
    arrays, meta = checkpoint.read(checkpoint.saved(str(run_dir / "checkpoints"))[-1])
    names = {key.split("/", 1)[1]: value for key, value in arrays.items()}
    return names, meta["history"][-1]


def _assert_same(run_dir, other):
    """Checks that both runs used the same batches, normalized them as a whole, and took the same steps."""
    (state, row), (expected, expected_row) = _state(run_dir), _state(other)
    assert state.keys() == expected.keys()
    # On TensorFlow, statistics of each device's own photos would change it by 6e-4, and rounding changes it by 1e-7.
    assert row["loss"] == pytest.approx(expected_row["loss"], rel=1e-4)
    assert row["val_loss"] == pytest.approx(expected_row["val_loss"], rel=1e-3)
    # Sums in another order change the sign of some ReLU inputs of an untrained network, and moving all weights by 1e-6
    # on one device changes its gradients by as much. If gradients were added instead of averaged, it would be 1.
    momenta = [name for name in expected if "momentum" in name]
    assert len(momenta) == 7 * 3 + 2  # a kernel, gamma and beta of each convolution, and the classifier
    ours, theirs = (np.concatenate([states[name].ravel() for name in momenta]) for states in (state, expected))
    assert np.linalg.norm(ours - theirs) < 0.5 * np.linalg.norm(theirs)


@pytest.fixture(scope="module")
def alone(photos, tmp_path_factory):
    """Returns the folder of the run on one device, by backend."""
    folder, done = tmp_path_factory.mktemp("alone"), set()

    def run(backend):
        if backend not in done:
            _train(_command(photos, folder / backend), _environment(backend))
            done.add(backend)
        return folder / backend

    return run


def test_mirrored_equals_one_device(photos, alone, tmp_path):
    program = (str(pathlib.Path(__file__).with_name("two_devices.py")),)
    _train(_command(photos, tmp_path, "--strategy=mirrored", program=program), _environment("tensorflow"))
    _assert_same(tmp_path, alone("tensorflow"))


def test_data_parallel_equals_one_device(photos, alone, tmp_path):
    needs.package("jax")
    _train(_command(photos, tmp_path, "--strategy=data_parallel"), _environment("jax", **TWO_CPUS))
    _assert_same(tmp_path, alone("jax"))


@pytest.fixture(scope="module")
def in_two_processes():
    """Runs a command as two processes in a separate network, since the coordinator listens on all interfaces."""
    needs.package("jax")
    if not shutil.which("unshare") or subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        pytest.skip("needs a network namespace: run the tests as root")
    script = str(pathlib.Path(__file__).with_name("two_processes.sh"))

    def start(photos, run_dir, *flags, **options):
        distributed = ["--strategy=data_parallel", "--coordinator=127.0.0.1:6601", "--num_processes=2", *flags]
        command = ["unshare", "-n", "sh", script, *_command(photos, run_dir, *distributed, **options)]
        return subprocess.run(command, cwd=ROOT, env=_environment("jax"), capture_output=True, text=True)

    return start


def test_two_processes_equal_one(photos, alone, in_two_processes, tmp_path):
    done = in_two_processes(photos, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    _assert_same(tmp_path, alone("jax"))


def _signalled(number):
    """A program whose second process gets a signal after step 3."""
    script = str(pathlib.Path(__file__).with_name("signalled.py"))
    return script, "tests.training.train_small", "3", str(int(number)), "--process_id=1"


def test_a_signal_to_one_process_stops_both_at_the_same_step(photos, in_two_processes, tmp_path):
    done = in_two_processes(photos, tmp_path, "--batch_size=2", program=_signalled(signal.SIGTERM))
    assert "statuses 143 143" in done.stdout, done.stderr[-3000:]
    (path,) = checkpoint.saved(str(tmp_path / "checkpoints"))
    step = int(path[-13:-4])
    assert 3 <= step <= 3 + run.LOOK_EVERY
    assert f"saved step {step} of 24 to {path}; the same command resumes from there." in done.stderr
    assert f"stopped at step {step}, which process 0 saves." in done.stderr


def test_a_lost_process_is_named_by_the_other(photos, in_two_processes, tmp_path):
    done = in_two_processes(photos, tmp_path, "--batch_size=2", program=_signalled(signal.SIGKILL))
    assert "statuses 1 137" in done.stdout, done.stderr[-3000:]
    assert "error: another process of this run was lost (" in done.stderr
    assert "Traceback" not in done.stderr

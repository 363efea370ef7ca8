"""Fixtures and options for all tests. Does not import Keras, so that tests that do not need it start fast."""

import contextlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests import jax_programs

if os.environ.get("KERAS_BACKEND") == "jax":
    os.environ.setdefault("XLA_FLAGS", jax_programs.XLA_FLAGS)

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers already use all cores
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

FIXTURES = pathlib.Path(__file__).parent / "fixtures"


def pytest_addoption(parser):
    parser.addoption(
        "--reliability_seconds",
        type=float,
        default=3.0,
        help="Duration of each test with random damage or random kills, in seconds (default 3).",
    )


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "tensorflow_only(reason): skips the test on other Keras backends; the reason is printed"
    )


def pytest_runtest_setup(item):
    marker = item.get_closest_marker("tensorflow_only")
    if marker and os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        pytest.skip(f"needs the TensorFlow backend ({marker.kwargs['reason']}): export KERAS_BACKEND=tensorflow")


@pytest.fixture(scope="session")
def reliability_seconds(request) -> float:
    """Duration of a test with random damage or random kills, in seconds."""
    return request.config.getoption("--reliability_seconds")


@pytest.fixture(scope="session")
def data() -> pathlib.Path:
    """The folder of photos and checkpoints in FD_KERAS_DATA; skips the test if it is not set."""
    folder = os.environ.get("FD_KERAS_DATA")
    if not folder:
        pytest.skip("needs photos and checkpoints: export FD_KERAS_DATA=FOLDER, see CONTRIBUTING.md")
    assert os.path.isdir(folder), f"FD_KERAS_DATA={folder}: no such folder"
    return pathlib.Path(folder)


class References:
    """The reference values in fixtures/, and the functions that create their weights and images."""

    def __init__(self):
        spec = importlib.util.spec_from_file_location("make_references", FIXTURES / "make_references.py")
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        self.seeded, self.seeded_images = script.seeded, script.seeded_images
        self.imgclsmob = json.loads((FIXTURES / "imgclsmob.json").read_text())
        self.photos = json.loads((FIXTURES / "photos.json").read_text())

    def write_imgclsmob(self, path, network: str, change=lambda name, array: {name: array}) -> str:
        """Writes an HDF5 file as imgclsmob does, filled with `seeded`.

        Args:
            path: Path of the file.
            network: Key of imgclsmob.json.
            change: Called with the name and array of each variable; returns the arrays to write instead, by name.
        """
        import h5py

        def write(tree: dict, prefix: str) -> None:
            for key, item in tree.items():
                name = f"{prefix}/{key}" if prefix else key
                if isinstance(item, dict):
                    write(item, name)
                else:
                    for changed, array in change(name, self.seeded(name, item)).items():
                        file[changed] = array

        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = ["features", "output1"]
            file.attrs["backend"], file.attrs["keras_version"] = "tensorflow", "2.21.0"
            write(self.imgclsmob["networks"][network]["layout"], "")
        return str(path)


@pytest.fixture(scope="session")
def references() -> References:
    return References()


class Programs:
    """A process that runs programs in forks of itself (see forked_programs.py).

    Args:
        modules: Modules to import before the first fork.
    """

    def __init__(self, *modules: str):
        tests = pathlib.Path(__file__).parent
        self._server = subprocess.Popen(
            [sys.executable, str(tests / "forked_programs.py"), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=tests.parent,
            env={**os.environ, "PYTHONPATH": "."},
        )

    def run(self, module: str, arguments, folder, environment=None) -> subprocess.CompletedProcess:
        """Runs `python -m module arguments` in a folder."""
        request = [module, [str(argument) for argument in arguments], environment or {}, str(folder)]
        print(json.dumps(request), file=self._server.stdin, flush=True)
        return subprocess.CompletedProcess(request, *json.loads(self._server.stdout.readline()))

    def close(self) -> None:
        """Ends the process."""
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


@pytest.fixture(scope="session")
def start_programs():
    """Starts `Programs`, which are closed at the end of the session."""
    with contextlib.ExitStack() as started:
        yield lambda *modules: started.enter_context(contextlib.closing(Programs(*modules)))

"""What the tests of training share: small synthetic photos, which every network can learn; and runs that are killed."""

import csv
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fd_keras.training import checkpoint

ROOT = pathlib.Path(__file__).parents[2]

CLASSES = ("amber", "blue", "cyan")
COLOURS = ((220, 150, 40), (40, 60, 200), (60, 200, 210))


def write_photos(folder: pathlib.Path, count: int, seed: int) -> None:
    """Writes `count` photos of every class: noise around the class's colour, JPEG, of differing sizes."""
    random = np.random.default_rng(seed)
    for name, colour in zip(CLASSES, COLOURS, strict=True):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.normal(colour, 60, (9, int(random.integers(8, 13)), 3)).clip(0, 255).astype("uint8")
            image = Image.fromarray(pixels).resize((8 * pixels.shape[1], 72), Image.Resampling.BICUBIC)
            image.save(folder / name / f"{name}_{index:03}.jpg", quality=85)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> pathlib.Path:
    """train/ of 3 x 16 photos and val/ of 3 x 5."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder / "train", 16, seed=1)
    write_photos(folder / "val", 5, seed=2)
    return folder


class Program:
    """A training program in processes of its own.

    Args:
        module: its name.
        flags: of every run but `--run_dir`.
    """

    def __init__(self, module: str, *flags: str):
        self._module, self._flags = module, flags

    def start(self, run_dir: pathlib.Path, dies_in: int | None = None) -> subprocess.Popen:
        """Starts or resumes a run; its output is in `log(run_dir)`.

        Args:
            run_dir: of the run.
            dies_in: which write of a checkpoint it is killed in.
        """
        program = ["-m", self._module]
        if dies_in is not None:
            program = [str(pathlib.Path(__file__).with_name("interrupted.py")), self._module, str(dies_in)]
        with open(self._log(run_dir), "w") as out:
            return subprocess.Popen(
                [sys.executable, *program, *self._flags, f"--run_dir={run_dir}"],
                cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def finish(self, run_dir: pathlib.Path) -> str:
        """Runs to the end; returns the log."""
        assert self.start(run_dir).wait(timeout=600) == 0, self.log(run_dir)
        return self.log(run_dir)

    def log(self, run_dir: pathlib.Path) -> str:
        """What the last process wrote."""
        return self._log(run_dir).read_text()

    @staticmethod
    def _log(run_dir: pathlib.Path) -> pathlib.Path:
        return run_dir.with_suffix(".log")

    @staticmethod
    def newest(run_dir: pathlib.Path) -> int:
        """The step of the last checkpoint."""
        names = [pathlib.Path(path).stem for path in checkpoint.saved(str(run_dir / "checkpoints"))]
        return int(names[-1].removeprefix("step_")) if names else 0

    @staticmethod
    def assert_equal(whole: pathlib.Path, broken: pathlib.Path, epochs: int, *kinds: str) -> None:
        """Checks that two runs ended at the same bits.

        Args:
            whole: one run's folder.
            broken: the other's.
            epochs: how many they had.
            kinds: of variables, by part of their names, that must be among what is compared.
        """
        (expected, told), (arrays, retold) = (
            checkpoint.read(checkpoint.saved(str(folder / "checkpoints"))[-1]) for folder in (whole, broken)
        )
        assert expected.keys() == arrays.keys()
        assert all(any(kind in name for name in expected) for kind in kinds)
        assert [key for key in expected if expected[key].tobytes() != arrays[key].tobytes()] == []
        assert len(told["history"]) == len(retold["history"]) == epochs
        assert _columns(whole) == _columns(broken)


CLOCK = ("images_per_second", "seconds_per_image", "input_bound", "seconds")


def _columns(run_dir: pathlib.Path) -> list[dict]:
    """history.csv without what depends on the clock."""
    with open(run_dir / "history.csv") as file:
        return [{key: value for key, value in row.items() if key not in CLOCK} for row in csv.DictReader(file)]


@pytest.fixture(scope="session")
def program_of() -> type[Program]:
    """`Program`, for tests that kill runs."""
    return Program

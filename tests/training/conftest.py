"""Fixtures for tests of training: small synthetic photos that all networks can learn, and runs to kill."""

import csv
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from fd_keras import zoo
from fd_keras.training import checkpoint, data_sets, raw_photos, shards
from tests import needs, small_network

CLASSES = ("amber", "blue", "cyan")
COLORS = ((220, 150, 40), (40, 60, 200), (60, 200, 210))


def write_photos(folder: pathlib.Path, count: int, seed: int) -> None:
    """Writes `count` JPEGs per class, of noise around the class's color and different sizes."""
    random = np.random.default_rng(seed)
    for name, color in zip(CLASSES, COLORS, strict=True):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.normal(color, 60, (9, int(random.integers(8, 13)), 3)).clip(0, 255).astype("uint8")
            image = Image.fromarray(pixels).resize((8 * pixels.shape[1], 72), Image.Resampling.BICUBIC)
            image.save(folder / name / f"{name}_{index:03}.jpg", quality=85)


def prepare(photos: pathlib.Path, folder: pathlib.Path, count: int = 5) -> dict:
    """Writes `count` training shards and two validation shards; returns the index."""
    train, classes = raw_photos.list_train(str(photos / "train"))
    index = {"classes": classes, "splits": {}}
    for split, raws in (("train", train), ("val", raw_photos.list_val(str(photos / "val"), None, classes))):
        tasks = shards.plan(split, raws, str(folder), count if split == "train" else 2, None, seed=0)
        index["splits"][split] = shards.write(tasks, workers=1)
    (folder / shards.INDEX).write_text(json.dumps(index))
    return index


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> pathlib.Path:
    """A folder with train/ of 3 x 16 photos and val/ of 3 x 5."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder / "train", 16, seed=1)
    write_photos(folder / "val", 5, seed=2)
    return folder


@pytest.fixture(scope="module")
def small():
    """Adds the small network to those of this process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(zoo.ARCHS, small_network.NAME, small_network.ARCH)
        yield


@pytest.fixture(scope="session")
def prepared(photos, tmp_path_factory) -> pathlib.Path:
    """The photos as shards."""
    folder = tmp_path_factory.mktemp("shards")
    prepare(photos, folder)
    return folder


@pytest.fixture(scope="session")
def tfds_dir(photos, tmp_path_factory):
    """A TFDS classification data set of the photos."""
    tfds = needs.package("tensorflow_datasets")

    class TinyPhotos(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            names = ["amber", "blue", "cyan"]
            features = {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=names),
                "file_name": tfds.features.Text(),
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples("train"), "validation": self._generate_examples("val")}

        def _generate_examples(self, split):
            for path in sorted((photos / split).glob("*/*.jpg")):
                yield path.name, {"image": str(path), "label": path.parent.name, "file_name": path.name}

    folder = tmp_path_factory.mktemp("tfds")
    TinyPhotos(data_dir=folder).download_and_prepare()
    return folder


@pytest.fixture(params=["shards", "folder", "tfds"])
def splits(request, photos) -> dict:
    """Training and validation set of the photos, by kind of source."""
    if request.param == "tfds":
        return data_sets.open_data("tfds:tiny_photos", tfds_dir=str(request.getfixturevalue("tfds_dir")))
    return data_sets.open_data(
        str(request.getfixturevalue("prepared")) if request.param == "shards" else f"folder:{photos}"
    )


class TrainingProgram:
    """A training program that runs in separate processes.

    Args:
        programs: What starts them, in forks that have imported the program's modules.
        module: Name of the program.
        flags: Flags of every run but `--run_dir`.
    """

    def __init__(self, programs, module: str, *flags: str):
        self._programs, self._module, self._flags = programs, module, flags

    def finish(self, run_dir: pathlib.Path) -> str:
        """Starts or resumes a run and waits for its end; returns its log."""
        assert self._run(run_dir, self._module) == 0, self.log(run_dir)
        return self.log(run_dir)

    def interrupt(self, run_dir: pathlib.Path, number: int, write: int) -> int:
        """Starts or resumes a run, and sends it a signal at a write of a checkpoint.

        Args:
            run_dir: Folder of the run.
            number: Signal, see interrupted.py.
            write: Which write, from 1.

        Returns:
            The exit status.
        """
        return self._run(run_dir, "tests.training.interrupted", self._module, write, int(number))

    def kill(self, run_dir: pathlib.Path, operation: int) -> int:
        """Starts or resumes a run and kills it before a file operation; returns the exit status."""
        return self._run(run_dir, "tests.killed_program", self._module, operation, run_dir)

    def _run(self, run_dir: pathlib.Path, module: str, *arguments) -> int:
        done = self._programs.run(module, [*arguments, *self._flags, f"--run_dir={run_dir}"], run_dir.parent)
        self._log(run_dir).write_text(done.stdout + done.stderr)
        return done.returncode

    def log(self, run_dir: pathlib.Path) -> str:
        """Output of the last process."""
        return self._log(run_dir).read_text()

    @staticmethod
    def _log(run_dir: pathlib.Path) -> pathlib.Path:
        return run_dir.with_suffix(".log")

    @staticmethod
    def newest(run_dir: pathlib.Path) -> int:
        """Returns the step of the last checkpoint."""
        names = [pathlib.Path(path).stem for path in checkpoint.saved(str(run_dir / "checkpoints"))]
        return int(names[-1].removeprefix("step_")) if names else 0

    @staticmethod
    def assert_equal(whole: pathlib.Path, broken: pathlib.Path, epochs: int, *kinds: str) -> None:
        """Checks that the results of two runs have equal bits.

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
    """Reads history.csv without columns that depend on time."""
    with open(run_dir / "history.csv") as file:
        return [{key: value for key, value in row.items() if key not in CLOCK} for row in csv.DictReader(file)]


@pytest.fixture(scope="session")
def program_of() -> type[TrainingProgram]:
    """`TrainingProgram`, for tests that kill runs."""
    return TrainingProgram


@pytest.fixture(scope="session")
def programs(start_programs):
    """Runs programs in forks of a process that has already imported their modules."""
    return start_programs("fd_keras.training.classifier_run", "fd_keras.training.accuracy")

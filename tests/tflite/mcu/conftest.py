"""Fixtures: an exported project, compiled with stubs of TFLM's headers."""

import dataclasses
import subprocess
from pathlib import Path

import pytest

from tests import needs
from tests.tflite.conftest import CLASSES, SIZE

HERE = Path(__file__).parent
LABELS = ['heron "grey"', "what??/", "back\\slash", "König 🦩", "*/ @width", *(f"class {i}" for i in range(5, CLASSES))]
CAMERA = (700, 500)
STRICT = ("-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-fsanitize=undefined,address")


@dataclasses.dataclass(frozen=True)
class Exported:
    """A project, and its .tflite file."""

    folder: Path
    tflite: str
    output: str  # of export-mcu

    @property
    def classifier(self) -> Path:
        """The folder of the sources for all platforms."""
        return self.folder / "classifier"

    def compile(self, binary: Path, *sources: Path, compiler: str = "g++", flags: tuple[str, ...] = STRICT) -> Path:
        """Compiles sources with the stubs, with warnings as errors; skips the test if the compiler is not installed."""
        sizes = f"-DSTUB_INPUT_BYTES={3 * SIZE[0] * SIZE[1]}", f"-DSTUB_OUTPUT_BYTES={CLASSES}"
        includes = f"-I{self.classifier}", f"-isystem{HERE / 'stubs'}"
        command = [needs.program(compiler), *flags, *sizes, *includes, *map(str, sources), "-o", str(binary)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return binary


@pytest.fixture(scope="session")
def exported(converted, forked_programs, tmp_path_factory) -> Exported:
    """The project of an FD-MobileNet with class names that need escaping in C++."""
    folder, path = tmp_path_factory.mktemp("mcu"), converted("fd_mobilenet", "int8").path
    (folder / "names.txt").write_text("\n".join(LABELS))
    flags = ("--output_dir=project", "--labels=names.txt", f"--camera={CAMERA[0]}x{CAMERA[1]}")
    done = forked_programs.run("fd_keras.tflite.mcu", (path, *flags), folder)
    assert done.returncode == 0, done.stderr
    return Exported(folder / "project", path, done.stdout)

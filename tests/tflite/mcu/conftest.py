"""An exported project, compiled against stubs of TFLM's headers."""

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tflite.conftest import CLASSES, SIZE

HERE = Path(__file__).parent
LABELS = ['heron "grey"', "what??/", "back\\slash", "König 🦩", "*/ @width", *(f"class {i}" for i in range(5, CLASSES))]
PACKAGES = {"g++": "g++", "arm-none-eabi-g++": "gcc-arm-none-eabi libstdc++-arm-none-eabi-newlib"}
CAMERA = (700, 500)
STRICT = ("-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-fsanitize=undefined,address")


@dataclasses.dataclass(frozen=True)
class Exported:
    """A project, and the file that it is of."""

    folder: Path
    tflite: str
    output: str  # of export-mcu

    @property
    def classifier(self) -> Path:
        """The folder of the sources that all platforms share."""
        return self.folder / "classifier"

    def compile(self, binary: Path, *sources: Path, compiler: str = "g++", flags: tuple[str, ...] = STRICT) -> Path:
        """Compiles sources with the stubs, without a warning; skips without the compiler."""
        if not shutil.which(compiler):
            pytest.skip(f"needs {compiler}: apt-get install {PACKAGES[compiler]}")
        sizes = f"-DSTUB_INPUT_BYTES={3 * SIZE[0] * SIZE[1]}", f"-DSTUB_OUTPUT_BYTES={CLASSES}"
        includes = f"-I{self.classifier}", f"-isystem{HERE / 'stubs'}"
        command = [compiler, *flags, *sizes, *includes, *map(str, sources), "-o", str(binary)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return binary


@pytest.fixture(scope="session")
def exported(converted, forked_programs, tmp_path_factory) -> Exported:
    """The project of an FD-MobileNet with class names that are hostile to C++."""
    folder, path = tmp_path_factory.mktemp("mcu"), converted("fd_mobilenet", "int8").path
    (folder / "names.txt").write_text("\n".join(LABELS))
    flags = ("--output_dir=project", "--labels=names.txt", f"--camera={CAMERA[0]}x{CAMERA[1]}")
    done = forked_programs.run("fd_keras.tflite.mcu", (path, *flags), folder)
    assert done.returncode == 0, done.stderr
    return Exported(folder / "project", path, done.stdout)

"""The project, compiled and run: the self-test, and camera frames against fd_keras.imagenet."""

import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fd_keras import imagenet
from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.mcu import project, reference
from fd_keras.tflite.memory import c_array
from tests import needs
from tests.tflite.conftest import CLASSES, SIZE
from tests.tflite.mcu.conftest import CAMERA, HERE, LABELS, Exported

ARM = (
    "-mcpu=cortex-m7",
    "-mfpu=fpv5-d16",
    "-mfloat-abi=hard",
    "-mthumb",
    "-std=c++17",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fno-exceptions",
    "-fno-rtti",
    "-c",
)
RGB565, RGB565_SWAPPED, RGB888, BGR888 = range(4)


@pytest.fixture(scope="module")
def self_test(exported, tmp_path_factory):
    """Runs the self-test on this computer, with a stub network that returns `scores`.

    Returns:
        The process, and the input that the network received.
    """
    sources = exported.classifier.glob("*.cc")
    binary = exported.compile(tmp_path_factory.mktemp("host") / "self_test", exported.folder / "host/main.cc", *sources)

    def run(folder: Path, scores: np.ndarray) -> tuple[subprocess.CompletedProcess, bytes]:
        (folder / "answer").write_bytes(scores.tobytes())
        done = subprocess.run([binary], cwd=folder, capture_output=True, text=True)
        return done, (folder / "seen").read_bytes()

    return run


@pytest.fixture(scope="module")
def expected(exported) -> tuple[np.ndarray, np.ndarray]:
    """The preprocessed image of the stored frame, and LiteRT's scores."""
    image = reference.image_of(reference.frame_of(None, *CAMERA), (*SIZE, 3))
    return image, reference.scores_of(exported.tflite, image)


def test_the_self_test_passes_with_litert_s_scores(self_test, expected, tmp_path):
    image, scores = expected
    done, seen = self_test(tmp_path, scores)
    assert done.returncode == 0, done.stderr
    best = int(scores.argmax())
    assert f"self-test: passed: class {best} ({LABELS[best]}), scores differ from LiteRT's by at most 0" in done.stderr
    assert seen == image.tobytes()


@pytest.mark.parametrize(("difference", "status"), [(project.TOLERANCE, 0), (project.TOLERANCE + 1, 1)])
def test_the_self_test_fails_on_other_scores(self_test, expected, tmp_path, difference, status):
    scores = expected[1].copy()
    scores[3] += difference if scores[3] < 128 else -difference
    done, _ = self_test(tmp_path, scores)
    assert done.returncode == status
    assert f"at most {difference} of 255 (limit {project.TOLERANCE})" in done.stderr


def test_exactly_the_file_s_ops_are_registered(self_test, exported, expected, tmp_path):
    done, _ = self_test(tmp_path, expected[1])
    assert re.findall(r"^op (\w+)$", done.stderr, re.MULTILINE) == sorted(
        {op.kind for op in read(exported.tflite).network.ops}
    )


def test_the_array_is_the_file_s(exported):
    header, source = c_array.c_array(exported.tflite, "model")
    assert (exported.classifier / "model.h").read_text() == header
    assert (exported.classifier / "model.cc").read_text() == source


def test_labels_match_the_given_names(exported, tmp_path):
    main = tmp_path / "main.cc"
    main.write_text(
        '#include <cstdio>\n#include "classifier.h"\n'
        "int main() { for (auto label : classifier::kLabels) std::puts(label); }\n"
    )
    binary = exported.compile(tmp_path / "labels", main, exported.classifier / "labels.cc")
    assert subprocess.run([binary], capture_output=True, check=True).stdout.decode().splitlines() == LABELS


@pytest.mark.parametrize("source", ["esp32s3/main/main.cc", "stm32/app.cc"])
def test_the_sources_of_boards_compile(exported, tmp_path, source):
    path = exported.folder / source
    exported.compile(
        tmp_path / "board.o", path, flags=("-std=c++17", "-Wall", "-Wextra", "-Werror", "-c", f"-I{path.parent}")
    )


def test_the_project_compiles_for_cortex_m(exported, tmp_path):
    for path in [*exported.classifier.glob("*.cc"), exported.folder / "stm32/app.cc"]:
        exported.compile(tmp_path / f"{path.stem}.o", path, compiler="arm-none-eabi-g++", flags=ARM)


def test_cmake_builds_the_self_test(exported, expected, tmp_path):
    cmake = needs.program("cmake")
    tree = tmp_path / "tflm"
    shutil.copytree(HERE / "stubs", tree)
    (tree / "tensorflow" / "empty.cc").write_text("")
    (tmp_path / "answer").write_bytes(expected[1].tobytes())
    sizes = f"-DCMAKE_CXX_FLAGS=-DSTUB_INPUT_BYTES={3 * SIZE[0] * SIZE[1]} -DSTUB_OUTPUT_BYTES={CLASSES}"
    for command in (
        [cmake, "-S", exported.folder, "-B", "build", f"-DTFLM_DIR={tree}", sizes],
        [cmake, "--build", "build"],
        ["build/self_test"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    command[:] = ["cmake", "-S", exported.folder, "-B", "other"]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "not a source tree of TensorFlow Lite Micro" in refused.stderr


# --- camera frames -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pixels(exported, tmp_path_factory):
    """Preprocesses a frame with the project's code; returns None if the code rejects it."""
    binary = exported.compile(
        tmp_path_factory.mktemp("camera") / "pixels", HERE / "pixels.cc", exported.classifier / "camera.cc"
    )

    def run(frame: bytes, width: int, height: int, pixel_format: int, binary=binary) -> np.ndarray | None:
        command = [binary, *map(str, (width, height, pixel_format))]
        done = subprocess.run(command, input=frame, capture_output=True)
        assert not done.stderr
        return None if done.returncode else np.frombuffer(done.stdout, "uint8").reshape(*SIZE, -1)

    return run


def photo(width: int, height: int) -> np.ndarray:
    """Draws random rectangles with sharp edges and noise; uint8 of shape (height, width, 3)."""
    rng = np.random.default_rng(width * height)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), "uint8"))
    rectangles = np.asarray(small.resize((width, height), Image.Resampling.NEAREST))
    noise, noisy = rng.integers(0, 256, (height, width, 3)), rng.random((height, width, 1)) < 0.2
    return np.where(noisy, noise, rectangles).astype("uint8")


def by_imagenet(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return imagenet.decode_image(file, "frame", shape)


@pytest.mark.parametrize(
    "size", [(320, 240), (240, 320), (700, 500), (160, 120), (96, 64), (97, 73), (61, 301), (109, 73), (8, 8), (1, 3)]
)
def test_pixels_of_frames_are_bit_identical_to_imagenet_s(pixels, size):
    image = photo(*size)
    expected = by_imagenet(image, (*SIZE, 3))
    np.testing.assert_array_equal(pixels(image.tobytes(), *size, RGB888), expected)
    np.testing.assert_array_equal(pixels(image[..., ::-1].tobytes(), *size, BGR888), expected)


def test_rgb565_frames(pixels):
    words = np.random.default_rng(0).integers(0, 2**16, (60, 80), "uint16")
    expected = by_imagenet(reference.TestFrame(words).rgb(), (*SIZE, 3))
    np.testing.assert_array_equal(pixels(words.astype(">u2").tobytes(), 80, 60, RGB565), expected)
    np.testing.assert_array_equal(pixels(words.astype("<u2").tobytes(), 80, 60, RGB565_SWAPPED), expected)


def test_frames_that_need_more_memory_are_refused(pixels):
    assert pixels(photo(1400, 1000).tobytes(), 1400, 1000, RGB888) is None
    assert pixels(b"", 0, 0, RGB888) is None
    assert pixels(bytes(3 * 65), 65, 1, RGB888) is None


def test_gray_and_signed_input(exported, pixels, tmp_path):
    header = (exported.classifier / "classifier.h").read_text()
    for old, new in (
        ("kChannels = 3", "kChannels = 1"),
        ("InputValue = std::uint8_t", "InputValue = std::int8_t"),
        ("kInputZeroPoint = 0", "kInputZeroPoint = -128"),
    ):
        assert old in header
        header = header.replace(old, new)
    (tmp_path / "classifier.h").write_text(header)
    for name in ("camera.h", "camera.cc", "model.h"):
        shutil.copy(exported.classifier / name, tmp_path)
    gray = Exported(tmp_path, exported.tflite, "")
    shutil.copytree(tmp_path, tmp_path / "classifier")
    binary = gray.compile(tmp_path / "pixels", HERE / "pixels.cc", gray.classifier / "camera.cc")
    image = photo(160, 120)
    values = pixels(image.tobytes(), 160, 120, RGB888, binary).view("int8")
    np.testing.assert_array_equal(values.astype(int) + 128, by_imagenet(image, (*SIZE, 1)))


# --- files -------------------------------------------------------------------------------------------------


def test_templates_have_no_placeholders_left(exported):
    for path in exported.folder.rglob("*"):
        if path.is_file() and path.name != "labels.cc":
            assert "@" not in path.read_text(), path
    names = {path.relative_to(exported.folder).as_posix() for path in exported.folder.rglob("*") if path.is_file()}
    assert names == {*project.templates(), "classifier/model.h", "classifier/model.cc"}


def test_scores_of_tflm_are_within_the_tolerance(exported, expected):
    runtime = needs.package("tflite_micro").runtime
    interpreter = runtime.Interpreter.from_file(exported.tflite)
    interpreter.set_input(expected[0][None], 0)
    interpreter.invoke()
    assert np.abs(interpreter.get_output(0)[0].astype(int) - expected[1].astype(int)).max() <= project.TOLERANCE

"""Tests class names and normalization in a file, as read by zip, LiteRT and MediaPipe's tasks."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import number_types
from flatbuffers.table import Table

from fd_keras import imagenet
from fd_keras.litert import Runner
from fd_keras.tflite import export
from fd_keras.tflite.format import metadata
from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.recipes import RECIPES
from tests import needs

NAMES = ["daisy", "Löwenzahn", "rose", "sun flower"]
FIXED = [f"class {index}" for index in range(10)]


class Field:
    """Reads a flatbuffer by the field numbers in metadata_schema.fbs."""

    def __init__(self, data: bytes, at: int):
        self.table = Table(bytearray(data), at)

    def _at(self, slot: int) -> int:
        offset = self.table.Offset(4 + 2 * slot)
        assert offset, f"field {slot} is absent"
        return self.table.Pos + offset

    def text(self, slot: int) -> str:
        return self.table.String(self._at(slot)).decode()

    def number(self, slot: int) -> int:
        return self.table.Get(number_types.Int8Flags, self._at(slot))

    def one(self, slot: int) -> "Field":
        return Field(self.table.Bytes, self.table.Indirect(self._at(slot)))

    def _vector(self, slot: int) -> tuple[int, int]:
        offset = self._at(slot) - self.table.Pos
        return self.table.Vector(offset), self.table.VectorLen(offset)

    def only(self, slot: int) -> "Field":
        """Returns the only element of a vector of tables."""
        start, length = self._vector(slot)
        assert length == 1
        return Field(self.table.Bytes, self.table.Indirect(start))

    def floats(self, slot: int) -> np.ndarray:
        start, length = self._vector(slot)
        return np.frombuffer(self.table.Bytes, "<f4", length, start)


def metadata_of(data: bytes) -> Field:
    """Reads the metadata of a file, and checks the identifier."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    (entry,) = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
    content = bytes(model.buffers[entry.buffer].data)
    assert content[4:8] == b"M001"
    return Field(content, flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, 0))


def names_in(data: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["labels.txt"]
        assert archive.infolist()[0].compress_type == zipfile.ZIP_STORED
        return archive.read("labels.txt").decode().split("\n")


@pytest.fixture(scope="module")
def plain(convert_tiny) -> bytes:
    return Path(convert_tiny("int8")).read_bytes()


# --- what is in the file -----------------------------------------------------------------------------------


def test_names_are_in_an_archive_at_the_end(plain):
    assert names_in(metadata.embed(plain, NAMES, True)) == NAMES


@pytest.mark.parametrize("include_preprocessing", [True, False])
def test_metadata_describe_the_image_and_point_to_the_names(plain, include_preprocessing):
    model = metadata_of(metadata.embed(plain, NAMES, include_preprocessing))
    assert model.text(7) == "1.0.0"
    image, scores = model.only(3).only(2), model.only(3).only(3)
    content, unit, names = image.one(3), image.only(4), scores.only(6)
    assert content.number(0) == 2
    assert content.one(1).number(0) == 1
    assert unit.number(0) == 1  # NormalizationOptions
    assert names.text(0) == "labels.txt"
    assert names.number(2) == 2
    mean, std = unit.one(1).floats(0), unit.one(1).floats(1)
    pixels = np.random.default_rng(0).uniform(0, 255, (5, 3)).astype("float32")
    expected = imagenet.preprocess_input(pixels, include_preprocessing)
    np.testing.assert_allclose((pixels - mean) / std, expected, rtol=0, atol=1e-5)


def test_network_is_the_same(plain, convert_tiny, images, tmp_path):
    path = tmp_path / "labeled.tflite"
    path.write_bytes(metadata.embed(plain, NAMES, True))
    before, after = read(convert_tiny("int8")), read(str(path))
    assert (after.network, after.weights, after.scales) == (before.network, before.weights, before.scales)
    np.testing.assert_array_equal(Runner(path)(images[:5]), Runner(convert_tiny("int8"))(images[:5]))


def test_metadata_of_the_converter_is_kept(plain):
    before, after = (schema.ModelT.InitFromPackedBuf(d, 0) for d in (plain, metadata.embed(plain, NAMES, True)))
    assert [entry.name for entry in after.metadata] == [*(entry.name for entry in before.metadata), b"TFLITE_METADATA"]
    assert [s.signatureKey for s in after.signatureDefs] == [s.signatureKey for s in before.signatureDefs]
    for one, other in zip(before.buffers, after.buffers, strict=False):
        assert (one.data is None) == (other.data is None)
        assert one.data is None or bytes(one.data) == bytes(other.data)


def test_same_names_give_the_same_bytes(plain):
    assert metadata.embed(plain, NAMES, True) == metadata.embed(plain, NAMES, True)
    assert metadata.embed(plain, NAMES, True) != metadata.embed(plain, NAMES[::-1], True)


def test_files_are_written_with_names_and_described_as_they_are(tiny, tmp_path):
    (path,) = export.write(
        tiny, "a", {"arch": None}, [RECIPES["float32"]], str(tmp_path), class_names=NAMES, include_preprocessing=True
    )
    assert names_in(Path(path).read_bytes()) == NAMES
    facts = json.loads(Path(path).with_suffix(".json").read_text())
    assert facts["size_bytes"] == Path(path).stat().st_size
    expected = hashlib.sha256("".join(f"{name}\n" for name in NAMES).encode()).hexdigest()
    assert facts["labels"] == {"count": len(NAMES), "sha256": expected}
    assert facts["class_names"] == NAMES


# --- a reader of others ------------------------------------------------------------------------------------


def test_mediapipe_names_the_classes_and_agrees_on_scores(converted, images, tmp_path):
    mediapipe = needs.package("mediapipe")
    from mediapipe.tasks.python import BaseOptions, vision

    file = converted("fd_mobilenet", "int8")
    path = tmp_path / "labeled.tflite"
    path.write_bytes(metadata.embed(Path(file.path).read_bytes(), FIXED, True))
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(path)))
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for image, scores in zip(images[:5].astype("uint8"), file.scores[:5], strict=True):
            found = classifier.classify(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image))
            categories = found.classifications[0].categories
            assert {c.category_name for c in categories} == set(FIXED)
            for category in categories:
                assert category.category_name == FIXED[category.index]
                assert category.score == pytest.approx(scores[category.index], abs=2 / 256)


# --- names -------------------------------------------------------------------------------------------------


def test_names_of_imagenet():
    assert metadata.load_labels("imagenet") == list(imagenet.class_names())


@pytest.mark.parametrize("text", ["a\nb c\n", "a\r\nb c", "\ufeffa\nb c\n\n"])
def test_names_are_the_lines_of_a_file(tmp_path, text):
    (tmp_path / "names.txt").write_bytes(text.encode())
    assert metadata.load_labels(str(tmp_path / "names.txt")) == ["a", "b c"]


def test_empty_line_is_named(tmp_path):
    (tmp_path / "names.txt").write_text("a\n\nb\n")
    with pytest.raises(ValueError, match=r"names\.txt: line 2"):
        metadata.load_labels(str(tmp_path / "names.txt"))


def test_file_that_is_not_text_is_named(tmp_path):
    (tmp_path / "names.bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"names\.bin: not valid UTF-8"):
        metadata.load_labels(str(tmp_path / "names.bin"))


@pytest.mark.parametrize(
    ("classes", "include", "integers", "word"), [(5, True, True, "4 names"), (4, False, True, "--io=float32")]
)
def test_misleading_names_are_rejected(classes, include, integers, word):
    with pytest.raises(ValueError, match=word):
        metadata.check_labels(NAMES, classes, include, integers)


@pytest.mark.parametrize(("include", "integers"), [(True, True), (True, False), (False, False)])
def test_valid_names_are_accepted(include, integers):
    metadata.check_labels(NAMES, 4, include, integers)

"""Class names and normalization inside a .tflite file, in the format of the TFLite task tools.

The format is TFLite metadata: a flatbuffer with the identifier M001 in the model's buffer TFLITE_METADATA, and a zip
archive with the names at the end of the file. Only this module depends on it. The tables are written field by field,
with the field numbers of metadata_schema.fbs, since no package can be used: the writer of mediapipe 1.2.3 cannot be
imported, and tflite-support 0.4.4 cannot be installed together with TensorFlow.
"""

import io
import zipfile
from collections.abc import Sequence

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from fd_keras import class_names, imagenet
from fd_keras.tflite.format.flatbuffer import pack, parse
from fd_keras.tflite_file import LABELS_FILE

_AXIS_LABELS, _IMAGE_PROPERTIES, _NORMALIZATION = 2, 2, 1
_COLOR_SPACES = {1: 2, 3: 1}  # gray and RGB; values of the schema's enums and unions


def load_labels(source: str) -> list[str]:
    """Loads class names: ImageNet's for "imagenet", otherwise the lines of a text file.

    Raises:
        ValueError: If the file is not UTF-8 text, or a line is empty.
        OSError: If the file does not exist.
    """
    if source == "imagenet":
        return list(imagenet.class_names())
    return list(class_names.read_lines(source, f"--embed_labels={source}"))


def check_labels(names: Sequence[str], classes: int, include_preprocessing: bool, integers: bool) -> None:
    """Raises ValueError if the number of names is wrong, or if task tools would normalize images incorrectly.

    Args:
        names: Class names in label order.
        classes: Number of the model's classes.
        include_preprocessing: Whether the model takes raw pixels.
        integers: Whether a file has an integer input, for which tools do not normalize images.
    """
    if len(names) != classes:
        raise ValueError(f"--embed_labels: {len(names)} names, but the model has {classes} classes.")
    if integers and not include_preprocessing:
        raise ValueError(
            "--embed_labels: task tools do not normalize integer images; convert with --include_preprocessing, or with "
            "--io=float32."
        )


def embed(data: bytes, names: Sequence[str], include_preprocessing: bool) -> bytes:
    """Embeds class names and normalization parameters in a .tflite file.

    Args:
        data: Content of the file.
        names: Class names in label order.
        include_preprocessing: Whether the model takes raw pixels; if not, ImageNet's mean and std are embedded.
    """
    model = parse(data)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    (graph,) = model.subgraphs
    channels = int(graph.tensors[graph.inputs[0]].shape[-1])
    buffer.data = list(metadata(include_preprocessing, channels))
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return with_archive(pack(model), "\n".join(names))


def with_archive(data: bytes, labels: str) -> bytes:
    """Appends a zip archive of the labels, uncompressed as readers require, with a fixed date for equal hashes."""
    whole = io.BytesIO(data)
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), labels)
    return whole.getvalue()


def metadata(include_preprocessing: bool, channels: int = 3) -> bytes:
    """The metadata flatbuffer: an RGB or gray input image with its normalization, and an output score per label."""
    write = _Writer()
    rescaling = imagenet.rescaling(channels)  # x * scale + offset; the schema uses (x - mean) / std
    std = [1.0] if include_preprocessing else [1 / scale for scale in rescaling["scale"]]
    mean = [0.0] if include_preprocessing else [-o * s for o, s in zip(rescaling["offset"], std, strict=True)]

    normalization = write.table({0: write.floats(mean), 1: write.floats(std)})
    unit = write.table({0: ("Uint8", _NORMALIZATION), 1: normalization})
    properties = write.table({0: ("Int8", _COLOR_SPACES.get(channels, 0))})
    content = write.table({0: ("Uint8", _IMAGE_PROPERTIES), 1: properties})
    image = write.table({0: write.text("image"), 3: content, 4: write.tables([unit])})
    labels = write.table({0: write.text(LABELS_FILE), 2: ("Int8", _AXIS_LABELS)})
    scores = write.table({0: write.text("score"), 6: write.tables([labels])})
    graph = write.table({2: write.tables([image]), 3: write.tables([scores])})
    model = write.table(
        {0: write.text("ImageClassifier"), 3: write.tables([graph]), 7: write.text("1.0.0")}  # the oldest parser
    )
    write.builder.Finish(model, b"M001")
    return bytes(write.builder.Output())


class _Writer:
    """Writes flatbuffer tables by field number; the parts of a table must be written before it."""

    def __init__(self):
        self.builder = flatbuffers.Builder(1024)

    def text(self, value: str) -> int:
        return self.builder.CreateString(value)

    def floats(self, values: Sequence[float]) -> int:
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.builder.PrependFloat32(value)
        return self.builder.EndVector()

    def tables(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()

    def table(self, fields: dict[int, int | tuple[str, int]]) -> int:
        """Writes a table; each field is an offset, or a tuple of type and number."""
        self.builder.StartObject(max(fields) + 1)
        for slot, value in fields.items():
            if isinstance(value, tuple):
                kind, number = value
                getattr(self.builder, f"Prepend{kind}Slot")(slot, number, 0)
            else:
                self.builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return self.builder.EndObject()

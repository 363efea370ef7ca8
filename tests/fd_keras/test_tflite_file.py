import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests import needs

schema = needs.package("ai_edge_litert.schema_py_generated")

from fd_keras.litert import Runner  # noqa: E402
from fd_keras.tflite.format.flatbuffer import pack  # noqa: E402
from fd_keras.tflite_file import LiteRTError, read_labels, read_model  # noqa: E402


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({"labels.txt": "a\nb\n"}, ("a", "b")),
        ({"labels.txt": "a\r\nb", "other.txt": "c"}, ("a", "b")),
        ({"labelmap.txt": "a"}, ("a",)),
        ({"one.txt": "a", "other.txt": "b"}, None),
        ({"model.json": "{}"}, None),
    ],
)
def test_names_are_read_from_the_archive_at_the_end(tmp_path, files, names):
    path = tmp_path / "a.tflite"
    path.write_bytes(b"not looked at")
    assert read_labels(path) is None
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    assert read_labels(path) == names


def test_class_names_larger_than_the_limit_are_rejected(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.tflite", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", "a" * (2**24 + 1))
    with pytest.raises(LiteRTError, match="a.tflite: its class names are damaged .larger than 16 MiB"):
        read_labels(tmp_path / "a.tflite")


@pytest.mark.parametrize(("attribute", "value"), [("compress_type", 99), ("flag_bits", 1)])
def test_encrypted_names_and_unknown_compressions_are_rejected(tmp_path, attribute, value):
    with zipfile.ZipFile(tmp_path / "a.tflite", "w") as archive:
        archive.writestr("labels.txt", "a")
        setattr(archive.infolist()[0], attribute, value)  # written when the archive is closed
    with pytest.raises(LiteRTError, match="a.tflite: its class names are damaged"):
        read_labels(tmp_path / "a.tflite")


def tensor(dtype: int, shape: list[int], buffer: int = 0, scales: int = 0):
    made, quantization = schema.TensorT(), schema.QuantizationParametersT()
    made.name, made.type, made.buffer = b"it", dtype, buffer
    made.shape = np.array(shape, "int32")
    if scales:
        quantization.scale, quantization.zeroPoint = np.full(scales, 0.5, "float32"), np.zeros(scales, "int64")
        made.quantization = quantization
    return made


def dense():
    """An int8 dense layer from 4 to 2 channels, as a schema object."""
    model, graph, op, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 4
    op.builtinOptionsType, op.builtinOptions = (
        schema.BuiltinOptions.FullyConnectedOptions,
        schema.FullyConnectedOptionsT(),
    )
    op.inputs, op.outputs = np.array([0, 1, -1], "int32"), np.array([2], "int32")
    graph.inputs, graph.outputs = np.array([0], "int32"), np.array([2], "int32")
    int8 = schema.TensorType.INT8
    graph.tensors = [tensor(int8, [1, 4], 0, 1), tensor(int8, [2, 4], 1, 2), tensor(int8, [1, 2], 0, 1)]
    graph.operators, model.subgraphs, model.operatorCodes, model.version = [op], [graph], [code], 3
    model.buffers = [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.ones(8, "uint8")
    return model


@pytest.fixture
def write(tmp_path):
    def write(model) -> Path:
        (tmp_path / "it.tflite").write_bytes(pack(model))
        return tmp_path / "it.tflite"

    return write


def test_valid_file_is_read(write):
    path = write(dense())
    data, model = read_model(path)
    assert data == path.read_bytes()
    assert len(model.subgraphs[0].tensors) == 3


def change(path: str, value):
    """Sets the field at a path such as "subgraphs[0].inputs[0]"."""

    def changed(model):
        exec(f"model.{path} = value", {"model": model, "value": value})

    return changed


TENSOR = "subgraphs[0].tensors"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (change("subgraphs", []), "it holds no network"),
        (
            change("subgraphs[0].operators[0].inputs[0]", 9),
            "an input of operation 0, FULLY_CONNECTED, is tensor 9",
        ),
        (change("subgraphs[0].operators[0].inputs[0]", -1), "lacks tensors"),
        (change("subgraphs[0].operators[0].outputs[0]", -2), "an output of operation 0, FULLY_CONNECTED, is tensor -2"),
        (change("subgraphs[0].operators[0].outputs[0]", 1), "writes tensor 1, which is constant"),
        (change("subgraphs[0].operators[0].outputs[0]", 0), "writes tensor 0 again"),
        (change("subgraphs[0].operators[0].opcodeIndex", 7), "operation 0 has operator 7 of 1"),
        (change("operatorCodes[0].builtinCode", 9999), "operator 9999 is not known"),
        (change("subgraphs[0].inputs[0]", 3), "an input is tensor 3 of 3"),
        (change("subgraphs[0].inputs[0]", 1), "the input, tensor 1, is constant"),
        (change("subgraphs[0].operators", []), "the output, tensor 2, is never computed"),
        (change(f"{TENSOR}[0].shape[1]", -4), r"tensor 0 has the shape \[1, -4\]"),
        (change(f"{TENSOR}[0].shape[1]", 2**31 - 1), "which is too large"),
        (change(f"{TENSOR}[1].shape[1]", 5), r"tensor 1 has 8 bytes of values where its shape \[2, 5\] needs 10"),
        (change(f"{TENSOR}[1].buffer", 2), "tensor 1 has values 2 of 2"),
        (change(f"{TENSOR}[1].type", 99), "tensor 1 is of type 99"),
        (change(f"{TENSOR}[1].externalBuffer", 1), "tensor 1 has its values in another file"),
        (change(f"{TENSOR}[1].name", b"\xff"), "tensor 1 has a name that is not UTF-8"),
        (change(f"{TENSOR}[2].type", schema.TensorType.UINT8), "makes UINT8 of INT8"),
        (change(f"{TENSOR}[1].quantization.quantizedDimension", 2), "scales along dimension 2"),
        (change(f"{TENSOR}[1].quantization.quantizedDimension", 1), "has 2 scales for its shape"),
        (change(f"{TENSOR}[1].quantization.scale[0]", np.nan), "scale that is not a positive number"),
        (change(f"{TENSOR}[1].quantization.scale[0]", 1e-38), "scale that is not a positive number"),
        (change(f"{TENSOR}[1].quantization.scale[0]", 1e6), "FULLY_CONNECTED, has scales too large for its output's"),
        (change(f"{TENSOR}[1].quantization.zeroPoint[0]", 200), "zero point out of the range of INT8"),
        (change(f"{TENSOR}[1].quantization.zeroPoint", np.zeros(1, "int64")), "1 zero points for 2 scales"),
        (change(f"{TENSOR}[2].quantization", None), "has a tensor without scale"),
        (change(f"{TENSOR}[1].shape", np.array([8], "int32")), "2 scales for its shape"),
        (change("buffers[1].offset", 10**9), "values lie beyond the end of the file"),
    ],
)
def test_damage_is_named_before_litert_opens_the_file(write, damage, words):
    model = dense()
    damage(model)
    path = write(model)
    for reader in (read_model, Runner):
        with pytest.raises(LiteRTError, match=rf"it\.tflite: damaged \(.*{words}"):
            reader(path)


@pytest.mark.parametrize("part", [0.02, 0.3, 0.9])
def test_a_truncated_file_is_named(write, part):
    path = write(dense())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(LiteRTError, match=r"it\.tflite: (damaged|not a)"):
        read_model(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"not a .tflite file \(empty\)"),
        (b"PK\3\4 a model", "not a .tflite file, but a .keras file or another zip"),
        (b"other bytes", "not a .tflite file"),
    ],
)
def test_files_of_another_kind_are_named_as_such(tmp_path, content, words):
    (tmp_path / "it.tflite").write_bytes(content)
    with pytest.raises(LiteRTError, match=rf"it\.tflite: {words}"):
        read_model(tmp_path / "it.tflite")

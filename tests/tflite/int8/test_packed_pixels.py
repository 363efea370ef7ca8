import keras
import numpy as np
import pytest

from fd_keras.litert import Runner
from fd_keras.tflite.export import export
from fd_keras.tflite.format.flatbuffer import pack, parse, read
from fd_keras.tflite.int8.packed_pixels import pack_pixels
from fd_keras.tflite.recipes import RECIPES, Calibration
from fd_keras.tflite_file import kind_of


@pytest.fixture
def saved(tmp_path):
    """Writes a file; returns its path."""

    def save(data):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.tflite"
        path.write_bytes(data)
        return str(path)

    return save


@pytest.fixture
def framed(calibration):
    """Converts a classifier that begins with a padding and a convolution to int8."""

    def export_one(channels, width=64, **convolution):
        images = calibration.images[:, :32, :width]
        image = keras.Input(images.shape[1:])
        x = keras.layers.Rescaling(1 / 64, -2)(image)
        x = keras.layers.ZeroPadding2D(1)(x)
        x = keras.layers.Conv2D(channels, **{"kernel_size": 3, "strides": 2, "activation": "relu", **convolution})(x)
        x = keras.layers.Dense(4, "softmax")(keras.layers.GlobalAveragePooling2D()(x))
        return export(keras.Model(image, x), RECIPES["int8"], calibration=Calibration(calibration.ids, images))

    return export_one


def _convolutions(path):
    """Shapes of the image, kernel and output of each convolution."""
    network = read(path).network
    return [
        [network.tensors[index].shape for index in (*op.inputs[:2], *op.outputs)]
        for op in network.ops
        if op.kind == "CONV_2D"
    ]


@pytest.mark.parametrize("name", ["fd_mobilenet", "mobilenet"])
def test_scores_of_a_network_with_8_channels_are_bit_identical(converted, images, saved, name):
    file = converted(name, "int8")
    with open(file.path, "rb") as opened:
        packed = saved(pack_pixels(opened.read()))
    first, *others = _convolutions(packed)
    assert first == [(1, 66, 25, 12), (16, 3, 2, 12), (1, 32, 24, 16)]
    assert others == _convolutions(file.path)[1:]
    assert Runner(packed).input["quantization"] == file.runner.input["quantization"]
    np.testing.assert_array_equal(Runner(packed)(images), file.scores)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_fewer_channels_fill_a_tile_too(framed, images, saved, channels):
    data = framed(channels)
    packed = saved(pack_pixels(data))
    ((_, kernel, output),) = _convolutions(packed)
    assert kernel[0] == output[-1] == 16
    images = images[:, :32, :64]
    np.testing.assert_array_equal(Runner(packed)(images), Runner(saved(data))(images))


@pytest.mark.parametrize(
    "convolution",
    [
        {"channels": 16},  # already fill a tile
        {"channels": 6},
        {"channels": 8, "width": 62},  # the columns do not divide into groups
        {"channels": 8, "kernel_size": 5},  # the window spans three groups
    ],
    ids=str,
)
def test_other_convolutions_do_not_change(framed, convolution):
    data = framed(**convolution)
    assert pack_pixels(data) is data


def test_options_that_change_the_window_are_respected(framed):
    data = framed(8)
    assert pack_pixels(data) is not data
    for option, value in {"padding": 0, "dilationWFactor": 2, "dilationHFactor": 2, "strideW": 1}.items():
        model = parse(data)
        (convolution,) = [op for op in model.subgraphs[0].operators if kind_of(model, op) == "CONV_2D"]
        setattr(convolution.builtinOptions, option, value)
        changed = pack(model)
        assert pack_pixels(changed) is changed, option


@pytest.mark.parametrize("recipe", ["float32", "int8_plain"])
def test_files_without_a_framed_integer_convolution_do_not_change(converted, recipe):
    with open(converted("fd_mobilenet", recipe).path, "rb") as opened:
        data = opened.read()
    assert pack_pixels(data) is data

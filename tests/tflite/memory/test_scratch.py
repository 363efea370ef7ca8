"""Tests scratch memory of vendors' kernels against values by hand, and against the vendors' compiled functions.

The latter needs gcc, and the environment variable FD_KERAS_KERNELS with the path of a folder with clones of
https://github.com/ARM-software/CMSIS-NN (as CMSIS-NN) and https://github.com/espressif/esp-nn (as esp-nn); otherwise
these tests are skipped. See CONTRIBUTING.md.
"""

import ctypes
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fd_keras import spec, zoo
from fd_keras.tflite.format.network import FileNetwork, FileOp, FileTensor, Window
from fd_keras.tflite.memory import estimate, scratch
from fd_keras.tflite.memory.arena import plan
from fd_keras.tflite.memory.scratch import CMSIS_NN, CMSIS_NN_DSP, CMSIS_NN_MVE, CORTEX_M, ESP_NN, TFLM
from tests import needs

Shape = tuple[int, ...]


def one(kind: str, image: Shape, kernel: Shape, result: Shape, stride: int = 1, dtype: str = "INT8") -> FileNetwork:
    """Builds a network of one operation; with int4, only its kernel is int4."""
    tensors = (
        FileTensor("image", "INT8", image),
        FileTensor("kernel", dtype, kernel, True),
        FileTensor("", "INT8", result),
    )
    window = Window((kernel[1], kernel[2]), (stride, stride)) if len(kernel) == 4 else None
    return FileNetwork(tensors, (FileOp(kind, (0, 1), (2,), window),), (0,), (2,))


def asked(library: scratch.KernelLibrary, *layer) -> int:
    network = one(*layer)
    return library.scratch(network, network.ops[0])


POINTWISE = "CONV_2D", (1, 14, 14, 128), (64, 1, 1, 128), (1, 14, 14, 64)
FIRST = "CONV_2D", (1, 225, 225, 3), (8, 3, 3, 3), (1, 112, 112, 8), 2
DEPTHWISE = "DEPTHWISE_CONV_2D", (1, 14, 14, 128), (1, 3, 3, 128), (1, 14, 14, 128)
LARGE = "DEPTHWISE_CONV_2D", (1, 57, 57, 32), (1, 3, 3, 32), (1, 28, 28, 32), 2
FIVE = "DEPTHWISE_CONV_2D", (1, 7, 7, 512), (1, 5, 5, 512), (1, 7, 7, 512)
TWELVE = "CONV_2D", (1, 14, 14, 12), (32, 1, 1, 12), (1, 14, 14, 32)
DENSE = "FULLY_CONNECTED", (1, 256), (5, 256), (1, 5)
SOFTMAX = "SOFTMAX", (1, 1000), (1,), (1, 1000)


@pytest.mark.parametrize(
    ("layer", "plain", "dsp", "mve"),
    [
        (POINTWISE, 0, 4 * 128, 0),
        (FIRST, 4 * 28, 4 * 28, 4 * 32),  # 27 values in fours or in vectors of 16, twice in 16 bits or four times
        (DEPTHWISE, 0, 0, 4 * 124 * 9),  # 3x3 has kernels of its own
        (FIVE, 0, 2 * 512 * 25, 4 * 124 * 25),
        (DENSE, 0, 0, 4 * 5),
        (SOFTMAX, 0, 0, 0),
        (("CONV_2D", (1, 7, 7, 24), (12, 1, 1, 8), (1, 7, 7, 12)), 4 * 24, 4 * 24, 4 * 32),  # grouped
    ],
)
def test_cmsis_nn(layer, plain, dsp, mve):
    assert [asked(library, *layer) for library in (CMSIS_NN, CMSIS_NN_DSP, CMSIS_NN_MVE)] == [plain, dsp, mve]


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (POINTWISE, 128 * 64 + 16 * 128 + 64),  # kernel, eight pixels twice, margins
        (TWELVE, 14 * 14 * 16 + 16 * 32 + 16 * 16 + 64),  # the image, too: its channels are not in eights
        (FIRST, 8 * 4 + 16 + 8 * 32 + 16 + 32 + 64),  # windows one by one
        (DEPTHWISE, 9 * 128 + 16 * 16 * 128 + 16),  # padded image: 32 KiB
        (LARGE, 9 * 32 + 58 * 3 * 32 + 16),  # 57 columns and one more, three rows of it
        (SOFTMAX, 4 * 1000),
        (DENSE, 0),
    ],
)
def test_esp_nn(layer, size):
    assert asked(ESP_NN, *layer) == size


def test_scratch_memory_is_needed_while_the_layer_runs():
    """The second layer's scratch memory reuses the memory of the first layer's input."""
    tensors = [FileTensor("", "INT8", (1, side, side, 16)) for side in (20, 10, 8)]
    kernel = FileTensor("", "INT8", (16, 3, 3, 16), True)
    ops = FileOp("MAX_POOL_2D", (0,), (1,), Window((2, 2), (2, 2))), FileOp("CONV_2D", (1, 3), (2,), Window((3, 3)))
    network = FileNetwork((*tensors, kernel), ops, (0,), (2,))
    scratched = CMSIS_NN_MVE.scratch(network, ops[1])
    assert scratched == 4 * 144
    assert plan(network, CMSIS_NN_MVE).arena == plan(network).arena == 400 * 16 + 100 * 16
    assert plan(network, CMSIS_NN_MVE).live_bytes(1) == plan(network).live_bytes(1) + scratched


def test_int4_kernels_are_unpacked_except_by_cmsis_nn():
    network = one(*POINTWISE, 1, "INT4")
    assert [plan(network, library).arena - plan(network, CMSIS_NN).arena for library in (TFLM, ESP_NN)] == [
        64 * 128,
        64 * 128 + asked(ESP_NN, *POINTWISE),
    ]


def test_scratch_memory_of_a_network_is_at_most_half_of_the_arena():
    """It is at most half of the arena, since no formula copies a whole padded image twice."""
    arch = zoo.get_arch("fd_mobilenet")
    network = estimate.converted(arch, spec.lower(arch, 0.25, (224, 224), classes=5), (224, 224))
    arenas = {library.title: plan(network, library).arena for library in (*CORTEX_M, ESP_NN)}
    assert all(plan(network).arena <= arena <= 1.5 * plan(network).arena for arena in arenas.values()), arenas


# --- against the sources -----------------------------------------------------------------------------------

_CMSIS = """
#include "arm_nnfunctions.h"
int conv{0}(const int *s) {{
  cmsis_nn_dims in = {{1, s[0], s[1], s[2]}}, k = {{s[5], s[6], s[7], s[12]}}, out = {{1, s[3], s[4], s[5]}};
  cmsis_nn_conv_params p = {{.stride = {{s[9], s[8]}}, .padding = {{s[11], s[10]}}, .dilation = {{1, 1}}}};
  return arm_convolve_wrapper_s8_get_buffer_size{0}(&p, &in, &k, &out);
}}
int depthwise{0}(const int *s) {{
  cmsis_nn_dims in = {{1, s[0], s[1], s[2]}}, k = {{1, s[6], s[7], s[5]}}, out = {{1, s[3], s[4], s[5]}};
  cmsis_nn_dw_conv_params p = {{.stride = {{s[9], s[8]}}, .padding = {{s[11], s[10]}}, .dilation = {{1, 1}}}};
  return arm_depthwise_conv_wrapper_s8_get_buffer_size{0}(&p, &in, &k, &out);
}}
"""
_ESP = """
int conv(const int *s) {
  data_dims_t in = {s[1], s[0], s[2], 1}, k = {s[7], s[6], s[12], 0}, out = {s[4], s[3], s[5], 1};
  conv_params_t p = {.stride = {s[9], s[8]}, .padding = {s[11], s[10]}};
  return esp_nn_get_conv_scratch_size_esp32s3(&in, &k, &out, &p);
}
int depthwise(const int *s) {
  data_dims_t in = {s[1], s[0], s[2], 1}, k = {s[7], s[6], s[5], 0}, out = {s[4], s[3], s[5], 1};
  dw_conv_params_t p = {.ch_mult = s[5] / s[2], .stride = {s[9], s[8]}, .padding = {s[11], s[10]}};
  return esp_nn_get_depthwise_conv_scratch_size_esp32s3(&in, &k, &out, &p);
}
"""


def sources(name: str) -> Path:
    folder = Path(os.environ.get("FD_KERAS_KERNELS", "")) / name
    needs.program("gcc")
    if not os.environ.get("FD_KERAS_KERNELS") or not folder.is_dir():
        pytest.skip(f"needs the sources of {name}: export FD_KERAS_KERNELS=FOLDER, see CONTRIBUTING.md")
    return folder


def compiled(folder: Path, code: str, *arguments: str) -> ctypes.CDLL:
    (folder / "sizes.c").write_text(code)
    library = folder / "sizes.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, folder / "sizes.c", *arguments], check=True)
    return ctypes.CDLL(str(library))


def random_layers(kind: str, count: int = 2000):
    """Yields layers with "SAME" or "VALID" padding, and their sizes for the C functions above."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        side, kernel, stride = int(rng.integers(6, 60)), int(rng.choice([1, 3, 5])), int(rng.integers(1, 3))
        channels, outputs = (int(rng.choice([1, 3, 4, 8, 12, 16, 24, 32, 60, 64, 128])) for _ in range(2))
        if kind == "DEPTHWISE_CONV_2D":  # not one channel and 2 to 8 outputs, where the result depends on the compiler
            outputs = channels * int(rng.choice([1, 16] if channels == 1 else [1, 1, 1, 2, 4]))
        result = -(-side // stride) if rng.random() < 0.5 else (side - kernel) // stride + 1
        shape = (1, kernel, kernel, outputs) if kind == "DEPTHWISE_CONV_2D" else (outputs, kernel, kernel, channels)
        network = one(kind, (1, side, side, channels), shape, (1, result, result, outputs), stride)
        pad = max((result - 1) * stride + kernel - side, 0) // 2
        numbers = [side, side, channels, result, result, outputs, kernel, kernel, stride, stride, pad, pad, channels]
        yield network, (ctypes.c_int * 13)(*numbers)


def assert_the_same(library: scratch.KernelLibrary, code: ctypes.CDLL, suffix: str = "") -> None:
    for kind, name in (("CONV_2D", "conv"), ("DEPTHWISE_CONV_2D", "depthwise")):
        for network, numbers in random_layers(kind):
            size = getattr(code, name + suffix)(numbers)
            assert library.scratch(network, network.ops[0]) == size, (library.title, kind, list(numbers))


def test_scratch_memory_equals_that_of_cmsis_nn_s_sources(tmp_path):
    folder = sources("CMSIS-NN")
    files = [
        str(folder / f"Source/ConvolutionFunctions/arm_{name}_get_buffer_sizes_s8.c")
        for name in ("convolve", "depthwise_conv")
    ]
    text = "".join(_CMSIS.format(suffix) for suffix in ("", "_dsp", "_mve"))
    code = compiled(tmp_path, text, f"-I{folder / 'Include'}", "-D__ARMCC_VERSION=6010050", *files)
    for library, suffix in ((CMSIS_NN, ""), (CMSIS_NN_DSP, "_dsp"), (CMSIS_NN_MVE, "_mve")):
        assert_the_same(library, code, suffix)


def test_scratch_memory_equals_that_of_esp_nn_s_sources(tmp_path):
    folder = sources("esp-nn")
    text = '#include "esp_nn_defs.h"\n#define max(a, b) ((a) > (b) ? (a) : (b))\n#include <stddef.h>\n'
    for file, name in (("conv_esp32s3", "conv"), ("depthwise_conv_s8_esp32s3", "depthwise_conv")):
        source = (folder / f"src/convolution/esp_nn_{file}.c").read_text()
        (function,) = re.findall(rf"^int esp_nn_get_{name}_scratch_size_esp32s3\(.*?^}}", source, re.M | re.S)
        text += function + "\n"
    assert_the_same(ESP_NN, compiled(tmp_path, text + _ESP, f"-I{folder / 'include'}"))

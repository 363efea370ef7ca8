"""Tests the C++ array by compiling it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.format.network import FileNetwork, FileOp
from fd_keras.tflite.memory import c_array
from fd_keras.tflite.memory.arena import plan, tflm_bytes
from fd_keras.tflite.recipes import RECIPES, check_recipes, get_recipes
from tests import needs

# A resolver that records calls, with the methods for FD-MobileNet's ops in TFLM's micro_mutable_op_resolver.h.
PROGRAM = """\
#include <cstdint>
#include <cstdio>
#include "{header}"

enum Status {{ kOk = 0, kError = 1 }};
template <unsigned int kSize>
struct Resolver {{
  unsigned int size = 0;
  Status Add(const char* name) {{
    if (size == kSize) return kError;
    ++size;
    std::fprintf(stderr, "%s\\n", name);
    return kOk;
  }}
{methods}
}};

int main(int count, char**) {{
  using namespace {space};
  Resolver<kOpCount> resolver;
  Resolver<kOpCount - 1> small;
  if (count > 1) return AddOps(small) ? 1 : 0;
  if (!AddOps(resolver) || resolver.size != kOpCount) return 1;
  if (reinterpret_cast<std::uintptr_t>(kModel) % 16) return 2;
  std::fprintf(stderr, "%zu %zu %zu\\n", kModelSize, kActivationBytes, kArenaSize);
  return std::fwrite(kModel, 1, kModelSize, stdout) == kModelSize ? 0 : 3;
}}
"""
METHODS = ("Concatenation", "Conv2D", "DepthwiseConv2D", "FullyConnected", "Mean", "Pad", "Quantize", "Softmax")


@pytest.fixture(scope="module")
def model(converted, tmp_path_factory) -> Path:
    """An FD-MobileNet file whose name is not a C++ identifier, with its array beside it."""
    path = tmp_path_factory.mktemp("array") / "5-my net.v2_int8.tflite"
    shutil.copy(converted("fd_mobilenet", "int8").path, path)
    assert list(c_array.write_c_array(str(path))) == [str(path.with_suffix(".h")), str(path.with_suffix(".cc"))]
    return path


@pytest.fixture(scope="module")
def program(model) -> Path:
    """A program with the array, compiled with warnings as errors."""
    compiler = needs.program("g++")
    methods = "\n".join(f'  Status Add{name}() {{ return Add("{name}"); }}' for name in METHODS)
    space = "model_5_my_net_v2_int8"
    text = PROGRAM.format(header=model.with_suffix(".h").name, space=space, methods=methods)
    (model.parent / "main.cc").write_text(text)
    binary = model.parent / "program"
    strict = ["-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run(
        [compiler, *strict, "main.cc", model.with_suffix(".cc").name, "-o", binary], cwd=model.parent, check=True
    )
    return binary


def test_array_is_the_file_and_is_aligned(program, model):
    run = subprocess.run([program], capture_output=True, check=True)
    assert run.stdout == model.read_bytes()


def test_ops_are_registered_once_each_and_sizes_are_the_plan_s(program, model):
    *names, sizes = subprocess.run([program], capture_output=True, check=True).stderr.decode().splitlines()
    network = read(str(model)).network
    assert names == sorted(METHODS)
    assert len(names) == len({op.kind for op in network.ops})
    size, activations, arena = map(int, sizes.split())
    assert (size, activations) == (model.stat().st_size, plan(network).arena)
    assert 0 <= arena - activations - tflm_bytes(network) < 16
    assert arena % 16 == 0


def test_a_resolver_that_is_too_small_is_reported(program):
    subprocess.run([program, "small"], check=True)


def test_header_describes_input_and_output(model):
    header = model.with_suffix(".h").read_text()
    assert re.search(r"input: +uint8 \[1, 64, 96, 3\]", header)
    assert re.search(r"output: +uint8 \[1, 10\]", header)


@pytest.mark.parametrize("name", ["mobilenet", "shufflenet", "fd_shufflenet"])
def test_methods_of_other_networks(converted, name):
    extra = {"AddAdd", "AddMaxPool2D", "AddReshape", "AddTranspose"} if "shuffle" in name else set()
    methods = c_array.resolver_methods(read(converted(name, "int8").path).network)
    assert set(methods) == {f"Add{method}" for method in METHODS} | extra


def test_unknown_op_is_named():
    with pytest.raises(ValueError, match="RANDOM_UNIFORM"):
        c_array.resolver_methods(FileNetwork((), (FileOp("RANDOM_UNIFORM", (), ()),), (), ()))


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_that_tflm_does_not_support_are_rejected(recipe):
    if recipe in ("float16", "dynamic"):
        with pytest.raises(ValueError, match=recipe):
            check_recipes(get_recipes(["float32", recipe]))
    else:
        check_recipes(get_recipes([recipe]))

"""Tests plans with overlapping tensors against a byte-by-byte simulation of the memory, and in TFLM."""

import numpy as np
import pytest

from fd_keras.tflite.format.flatbuffer import network_of, pack, parse
from fd_keras.tflite.memory.arena import plan
from fd_keras.tflite.strips.placement import offsets, with_plan
from fd_keras.tflite.strips.rewrite import in_strips, regions
from fd_keras.tflite.strips.search import trade
from tests import needs
from tests.tflite.strips.conftest import NETWORKS

every_network = pytest.mark.parametrize("name", NETWORKS)


def assert_runs(model) -> None:
    """Checks that each operation's inputs are intact, and that only QUANTIZE overwrites its input."""
    network, (graph,) = network_of(model), model.subgraphs
    whole = plan(network)
    place = {buffer.tensor: slice(buffer.offset, buffer.offset + buffer.bytes) for buffer in whole.buffers}
    owner = np.full(whole.arena, -1)
    owner[place[network.inputs[0]]] = network.inputs[0]
    for op in network.ops:
        inputs = [index for index in op.inputs if not network.tensors[index].constant]
        needed = {index: np.arange(network.tensors[index].bytes) + place[index].start for index in inputs}
        if op.kind == "SLICE":
            numbers = [model.buffers[graph.tensors[index].buffer].data for index in op.inputs[1:]]
            begin, size = (np.frombuffer(bytes(data), "<i4") for data in numbers)
            rows = needed[inputs[0]].reshape(network.tensors[inputs[0]].shape[1], -1)
            needed[inputs[0]] = rows[begin[1] : begin[1] + size[1]].ravel()
        assert all((owner[found] == index).all() for index, found in needed.items()), op
        owner[place[op.outputs[0]]] = op.outputs[0]
        assert op.kind == "QUANTIZE" or all((owner[found] == index).all() for index, found in needed.items()), op
    assert (owner[place[network.outputs[0]]] == network.outputs[0]).all()


@every_network
def test_no_byte_is_overwritten_before_its_last_use(parsed, name):
    front = trade(parsed(name))
    assert len(front) > 1
    for candidate in front[1:]:
        assert_runs(candidate.model)


@every_network
def test_a_whole_network_can_be_planned_too(parsed, name):
    model = parsed(name)
    planned = with_plan(model)
    assert_runs(planned)
    assert plan(network_of(planned)).arena <= plan(network_of(model)).arena


def test_an_image_is_freed_from_its_end_and_quantized_in_place(parsed):
    """With four strips of an image of 18,432 bytes, outputs of later strips overwrite rows of the image."""
    model = parsed("fd_mobilenet")
    changed = in_strips(model, regions(model)[2], [0, 6, 11, 14, 16])
    network, places = network_of(changed), offsets(changed)
    image, quantized = network.inputs[0], network.ops[0].outputs[0]
    assert places[image] == places[quantized] == 0
    joined = next(op for op in network.ops if op.kind == "CONCATENATION" and len(op.inputs) == 4)
    assert min(places[index] for index in joined.inputs) < network.tensors[image].bytes
    assert all(places[index] == -1 for index, tensor in enumerate(network.tensors) if tensor.constant)


def test_a_plan_replaces_an_older_one(parsed):
    once = with_plan(parsed("own"))
    assert parse(pack(with_plan(once))).metadata[-1].name == b"OfflineMemoryAllocation"
    assert len(with_plan(once).metadata) == len(once.metadata)


@every_network
def test_tflm_needs_the_planned_memory_and_has_the_same_outputs(parsed, integer_file, images, name, tmp_path, capfd):
    runtime = needs.package("tflite_micro").runtime
    candidate = trade(parsed(name))[-1]
    found = []
    for data, ram in ((integer_file(name), 1 << 20), (pack(candidate.model), candidate.ram // 16 * 16 + 16)):
        interpreter = runtime.Interpreter.from_bytes(data, arena_size=ram)
        for image in images[:4].astype("uint8"):
            interpreter.set_input(image[None], 0)
            interpreter.invoke()
            found.append(interpreter.get_output(0).copy())
    assert len(np.unique(found)) > 4
    np.testing.assert_array_equal(found[:4], found[4:])
    capfd.readouterr()
    interpreter.print_allocations()
    told = dict(line.split()[-3:-1] for line in capfd.readouterr().err.splitlines() if "Arena allocation" in line)
    assert int(told["head"]) == candidate.activations
    assert int(told["tail"]) <= candidate.tflm

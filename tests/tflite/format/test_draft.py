from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fd_keras.litert import Runner
from fd_keras.tflite.format.draft import Draft
from fd_keras.tflite.format.flatbuffer import network_of, pack, parse


@pytest.fixture
def model(convert_tiny):
    return parse(Path(convert_tiny("int8")).read_bytes())


@pytest.fixture
def scores(tmp_path, images):
    def run(model) -> np.ndarray:
        (tmp_path / "a.tflite").write_bytes(pack(model))
        return Runner(tmp_path / "a.tflite")(images[:4])

    return run


def test_a_draft_without_changes_is_the_same_network(model, scores):
    draft = Draft(model)
    draft.operators += model.subgraphs[0].operators
    np.testing.assert_array_equal(scores(draft.finished()), scores(model))


def test_operations_are_added_and_unused_constants_are_removed(model, scores):
    """Adds a slice and a padding before an operation, and a constant that is not used."""
    draft, (graph,), before = Draft(model), model.subgraphs, pack(model)
    image, reader = int(graph.operators[0].outputs[0]), graph.operators[1]
    _, height, width, _ = draft.shape(image)
    cut, padded = (draft.tensor(image, [1, height, side, 3]) for side in (width - 1, width))
    draft.numbers([1, 2, 3, 4, 5])  # used by nothing
    draft.operators.append(graph.operators[0])
    draft.add("SLICE", [image, draft.numbers([0] * 4), draft.numbers([1, height, width - 1, 3])], cut)
    draft.add("PAD", [cut, draft.numbers([[0, 0], [0, 0], [0, 1], [0, 0]])], padded)
    inputs = [padded if index == image else index for index in reader.inputs]
    draft.repeat(reader, inputs, reader.outputs[0], reader.builtinOptions)
    draft.operators += graph.operators[2:]
    changed = draft.finished()
    assert [op.kind for op in network_of(changed).ops[1:3]] == ["SLICE", "PAD"]
    assert len(changed.subgraphs[0].tensors) == len(graph.tensors) + 5
    assert scores(changed).shape == scores(model).shape
    assert pack(model) == before


def test_equal_constants_are_stored_once(model):
    draft, image = Draft(model), int(model.subgraphs[0].inputs[0])
    assert draft.numbers([0, 1]) == draft.numbers([0, 1]) != draft.numbers([[0, 1]])
    one, *others = (draft.constant(image, np.full((1, 2, 3, 1), value, "uint8")) for value in (0, 0, 1))
    assert one == others[0] != others[1]
    assert draft.shape(one) == [1, 2, 3]
    np.testing.assert_array_equal(draft.values(one), np.zeros((1, 2, 3, 1)))


def test_operators_of_the_file_are_reused_unless_too_old(model):
    draft, (graph,) = Draft(model), model.subgraphs
    draft.operators += graph.operators
    draft.add(
        "RESHAPE", [graph.inputs[0], draft.numbers([1, 64, 96, 3])], draft.tensor(graph.inputs[0], [1, 64, 96, 3])
    )
    codes = [code.builtinCode for code in draft.finished().operatorCodes]
    assert codes.count(schema.BuiltinOperator.RESHAPE) == 1
    assert len(codes) == len(set(codes))

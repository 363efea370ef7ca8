import numpy as np

from fd_keras.tflite.format.flatbuffer import pack
from fd_keras.tflite.strips.draft import Draft


def test_a_draft_without_changes_is_the_same_network(parsed, answers):
    model = parsed("own")
    draft = Draft(model)
    draft.operators += model.subgraphs[0].operators
    np.testing.assert_array_equal(answers(draft.finished()), answers(model))


def test_what_is_not_used_is_left_out_and_the_model_stays_as_it_is(parsed):
    model = parsed("fd_mobilenet")
    before = pack(model)
    draft, graph = Draft(model), model.subgraphs[0]
    draft.operators += graph.operators[1:]  # reads the image as it is, without the first QUANTIZE
    draft.operators[0] = type(graph.operators[1])(**vars(graph.operators[1]))
    draft.operators[0].inputs = np.where(
        graph.operators[1].inputs == graph.operators[0].outputs[0], graph.inputs[0], graph.operators[1].inputs
    )
    changed = draft.finished()
    assert len(changed.subgraphs[0].tensors) == len(graph.tensors) - 1
    assert pack(model) == before


def test_equal_constants_are_stored_once(parsed):
    model = parsed("own")
    draft, image = Draft(model), int(model.subgraphs[0].inputs[0])
    assert draft.numbers([0, 1]) == draft.numbers(np.array([0, 1])) != draft.numbers([[0, 1]])
    one, *others = (draft.constant(image, np.full((1, 2, 3, 1), value, "uint8")) for value in (0, 0, 1))
    assert one == others[0] != others[1]
    assert draft.shape(one) == [1, 2, 3]
    np.testing.assert_array_equal(draft.values(one), np.zeros((1, 2, 3, 1)))

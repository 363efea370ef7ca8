import pytest

from fd_keras.android_bench import schema
from fd_keras.android_bench.schema import absurdity, mismatch


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (1, schema.NUMBER, None),
        (True, schema.NUMBER, "it must be a number, not True"),
        (float("nan"), schema.NUMBER, "it must be a number, not nan"),
        (10**400, schema.NUMBER, "it must be a number"),
        (-1, schema.DURATION, "it must be a number of at least 0, not -1"),
        (None, schema.Optional(schema.TEXT), None),
        (None, schema.TEXT, "it must be text, not None"),
        ([1, "2"], [schema.NUMBER], "an item of it must be a number, not '2'"),
        ({"a": 1, "b": "x"}, schema.Mapped(schema.NUMBER), "b must be a number, not 'x'"),
        ({"alpha": "x"}, schema.FACTS, "alpha must be a number between 0 and 1000, not 'x'"),
        ([], schema.FACTS, "it must be an object, not []"),
        ("../x", schema.RUN, "it must be the name of a run, not '../x'"),
        ([], schema.MACHINE, "it must be phone, emulator, board, host, browser or core, not []"),
        ("x" * 99, schema.NUMBER, "it must be a number, not 'xxx"),
        ([224, 192], schema.IMAGE_SIZE, None),
        ([224], schema.IMAGE_SIZE, "it must be [height, width], not [224]"),
        ([224, 0], schema.IMAGE_SIZE, "it must be [height, width], not [224, 0]"),
        ("ab", schema.IMAGE_SIZE, "it must be [height, width], not 'ab'"),
    ],
)
def test_values_that_do_not_match_the_schema_are_named(value, kind, message):
    found = mismatch(value, kind)
    assert found == message or (message and found.startswith(message))


def test_invalid_values_are_found_at_any_depth():
    deep = []
    for _ in range(50):
        deep = [deep]
    for value in (deep, {"a": [float("inf")]}, {"a": {"b": 10**5000}}, ["x" * 200_000], "\ud800", {"y" * 200_000: 1}):
        assert absurdity(value)
    assert absurdity({"a": [1, 2.5, None, True, "text", {"b": -7}]}) is None

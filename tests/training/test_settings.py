import dataclasses

import pytest
from absl import flags

from fd_keras.training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class Bread(Settings):
    UNRECORDED = ("baker",)

    baker: str = "me"
    loaves: int = setting(2, "How many.", 1, 9)
    heat: float = setting(220.0, "Degrees.", 0)
    kind: str = setting("rye", "Of what.", choices=("rye", "wheat"))


def test_defaults_and_recorded_fields():
    assert Bread().settings() == {"loaves": 2, "heat": 220.0, "kind": "rye"}
    assert Bread().override(loaves=3, heat=None) == Bread(loaves=3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loaves": 0}, "--loaves=0: must be between 1 and 9"),
        ({"heat": -1.0}, "--heat=-1.0: must be a number of at least 0"),
        ({"heat": float("inf")}, "--heat=inf: must be a number of at least 0"),
        ({"kind": "oat"}, "--kind=oat: must be one of rye, wheat"),
    ],
)
def test_invalid_values_name_the_flag(values, message):
    with pytest.raises(ValueError, match=message):
        Bread(**values)
    with pytest.raises(ValueError, match=message):
        Bread().override(**values)


def test_flags_have_the_type_and_help_of_their_field():
    holders = Bread.define_flags()
    try:
        assert set(holders) == {"loaves", "heat", "kind"}
        flag = flags.FLAGS["loaves"]
        assert (flag.value, flag.help) == (None, "How many.")
        flag.parse("7")
        assert flag.value == 7
    finally:
        for name in holders:
            delattr(flags.FLAGS, name)


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("--loaves=10", "must be between 1 and 9"),
        ("--heat=nan", "must be a number of at least 0"),
        ("--kind=oat", "must be one of rye, wheat"),
    ],
)
def test_flags_reject_invalid_values(argument, reason):
    holders = Bread.define_flags()
    name, value = argument[2:].split("=")
    flag = flags.FLAGS[name]
    try:
        with pytest.raises(flags.IllegalFlagValueError, match=reason):
            setattr(flags.FLAGS, name, flag.parser.parse(value))
    finally:
        for defined in holders:
            delattr(flags.FLAGS, defined)

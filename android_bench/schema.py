"""Types and ranges of the values in rows.jsonl, runs.jsonl and sidecars, which other programs and users also write."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

_LARGEST = 1e18  # maximum of any number; 30 years in nanoseconds
_LONGEST = 100_000  # maximum characters of a text
_DEEPEST = 20


class Kind(NamedTuple):
    """A kind of value: its description for messages, and a test of whether a value is valid."""

    words: str
    test: Callable[[Any], bool]


class Optional(NamedTuple):
    """A value that may be null."""

    schema: Any


class Mapped(NamedTuple):
    """An object with any keys."""

    schema: Any


# A schema is a `Kind`, an `Optional`, a `Mapped`, a list of one schema, or a dict of schemas by key (all optional).
Schema = Any


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


def _is_integer(value: Any, least: int, most: float = _LARGEST) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _fixed_list(words: str, *kinds: Kind) -> Kind:
    """Returns the kind of a list with one value per item of `kinds`."""

    def test(value: Any) -> bool:
        return (
            isinstance(value, list)
            and len(value) == len(kinds)
            and all(kind.test(item) for kind, item in zip(kinds, value, strict=True))
        )

    return Kind(words, test)


NUMBER = Kind("a number", _is_number)
DURATION = Kind("a number of at least 0", lambda value: _is_number(value) and value >= 0)
COUNT = Kind("an integer of at least 1", lambda value: _is_integer(value, 1))
SIZE = Kind("an integer of at least 0", lambda value: _is_integer(value, 0))
TEXT = Kind("text", lambda value: isinstance(value, str))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
# A run's name becomes the name of a folder.
RUN = Kind(
    "the name of a run", lambda value: isinstance(value, str) and bool(re.fullmatch(r"[\w+-][\w.+-]{0,199}", value))
)
MACHINE = Kind(
    "phone, emulator, board, host, browser or core",
    lambda value: value in ("", "phone", "emulator", "board", "host", "browser", "core"),
)
STATISTIC = Kind("median or min", lambda value: value in ("median", "min"))
_SIDE = Kind("an integer from 1 to a million", lambda value: _is_integer(value, 1, 1e6))
IMAGE_SIZE = _fixed_list("[height, width]", _SIDE, _SIDE)
WIDTH = Kind("a number between 0 and 1000", lambda value: _is_number(value) and 0 <= value <= 1000)
_OP = _fixed_list("[type, ms, name]", TEXT, DURATION, TEXT)
# The counters of an emulated core, in the plugin's order.
COUNTERS = ("instructions", "simd", "dot", "matmul", "loads", "stores", "l1_misses", "l2_misses")
COUNTS = Kind(
    "an object of " + ", ".join(COUNTERS),
    lambda value: isinstance(value, dict) and value.keys() == set(COUNTERS) and all(map(SIZE.test, value.values())),
)
_SPAN = _fixed_list("[start, end]", DURATION, DURATION)
COUNTED_OP = _fixed_list("[type, name, counts]", TEXT, TEXT, COUNTS)
FACTS = {"arch": Optional(TEXT), "alpha": Optional(WIDTH), "size": Optional(IMAGE_SIZE)}
_STATE = {
    "governor": Mapped(TEXT),
    "mhz": Mapped(NUMBER),
    "max_mhz": Mapped(NUMBER),
    "busy_mhz": Optional(NUMBER),
    "temperature": Optional(NUMBER),
    "sensor": Optional(TEXT),
    "battery": {"percent": NUMBER, "charging": FLAG, "temperature": NUMBER},
    "thermal_status": Optional(SIZE),
    "low_power": Optional(FLAG),
    "load": Optional(NUMBER),
}
ROW = {
    **dict.fromkeys(("target", "device", "engine", "model", "recipe", "file", "sha256", "started"), TEXT),
    **dict.fromkeys(("delegate", "core", "kind"), TEXT),
    **dict.fromkeys(("threads", "runs", "attempt"), COUNT),
    **dict.fromkeys(("min_ns", "max_ns", "mean_ns", "std_ns"), DURATION),
    **dict.fromkeys(("median_ns", "p95_ns", "init_ns", "first_ns"), Optional(DURATION)),
    **{
        "run": RUN,
        "round": SIZE,
        "place": SIZE,
        "size_bytes": SIZE,
        "facts": FACTS,
        "statistic": STATISTIC,
        "flags": [TEXT],
    },
    **{"load": Optional(NUMBER), "samples_ns": [DURATION], "memory_mb": Mapped(NUMBER), "ops": [_OP]},
    **{"delegated": Mapped([SIZE]), "before": _STATE, "after": _STATE, "log": Optional(TEXT), "machine": MACHINE},
    **{"counts": COUNTS, "counted_ops": [COUNTED_OP], "span_s": _SPAN},
    "energy": {**dict.fromkeys(("mj", "pm_mj", "run_mw", "idle_mw", "pm_mw"), NUMBER), "how": TEXT},
    "delegation": {**dict.fromkeys(("ops", "of", "partitions", "kernels"), Optional(SIZE)), "whole": Optional(FLAG)},
}
EVENT = {
    **dict.fromkeys(("target", "device", "identity", "baseline", "state"), TEXT),
    **{"run": RUN, "reported": FLAG, "failures": [TEXT], "warnings": [TEXT]},
    **dict.fromkeys(("load_before", "load_after"), Optional(NUMBER)),
    "options": {"rounds": NUMBER, "runs": NUMBER, "min_secs": NUMBER, "sustained_secs": NUMBER},
    "environment": {
        **dict.fromkeys(("device", "engine"), TEXT),
        **dict.fromkeys(("android", "soc", "os", "kernel", "build", "clocks", "governor", "date"), Optional(TEXT)),
        **{"kind": MACHINE, "cores": Optional(NUMBER), "fixed_performance": Optional(FLAG)},
        **dict.fromkeys(("caches", "source"), Optional(TEXT)),
        **{"pinned": Mapped([SIZE]), "state": _STATE},
    },
}


def mismatch(value: Any, schema: Schema, where: str = "it") -> str | None:
    """Describes how a value violates a schema; None if it is valid.

    Args:
        value: A value as returned by `json.loads`.
        schema: The schema.
        where: Name of the value in the message.
    """
    if isinstance(schema, Kind):
        return None if schema.test(value) else f"{where} must be {schema.words}, not {shown(value)}"
    if isinstance(schema, Optional):
        return None if value is None else mismatch(value, schema.schema, where)
    if isinstance(schema, list):
        if not isinstance(value, list):
            return f"{where} must be a list, not {shown(value)}"
        return next(filter(None, (mismatch(item, schema[0], f"an item of {where}") for item in value)), None)
    if not isinstance(value, dict):
        return f"{where} must be an object, not {shown(value)}"
    schemas: Mapping[str, Schema] = dict.fromkeys(value, schema.schema) if isinstance(schema, Mapped) else schema
    found = (mismatch(value[key], inner, key) for key, inner in schemas.items() if key in value)
    return next(filter(None, found), None)


def absurdity(value: Any, depth: int = 0) -> str | None:
    """Describes why a value is invalid for any key (too deep, too long, too large, not Unicode); None if it is not.

    Args:
        value: A value as returned by `json.loads`.
        depth: Nesting depth of the value.
    """
    if depth > _DEEPEST:
        return "objects nested too deep"
    if isinstance(value, str):
        return _absurd_text(value)
    if isinstance(value, int | float):
        return None if isinstance(value, bool) or _is_number(value) else f"the number {shown(value)}"
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return next(filter(None, (absurdity(item, depth + 1) for item in inner)), None)


def _absurd_text(text: str) -> str | None:
    if len(text) > _LONGEST:
        return f"a text of {len(text)} characters"
    return "half a surrogate pair" if any("\ud800" <= letter <= "\udfff" for letter in text) else None


def shown(value: Any) -> str:
    """Formats a value for a message: short, and without control characters."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "a huge integer"
    return text if len(text) <= 60 else f"{text[:57]}..."

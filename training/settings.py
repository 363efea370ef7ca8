"""Settings that flags can change: dataclass fields that carry their range and their explanation."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from absl import flags

_DEFINE = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}


def setting(default: Any, text: str, low: float = -math.inf, high: float = math.inf, choices: tuple = ()) -> Any:
    """A field of `Settings`.

    Args:
        default: Its value unless another is given; decides the type of the flag.
        text: What it means, for `--help`.
        low: Least value, for numbers.
        high: Greatest value, for numbers.
        choices: The only values allowed, if any.
    """
    metadata = {"text": text, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base of frozen dataclasses whose fields made by `setting` can be set by flags of their names.

    Raises:
        ValueError: For a value out of range; names the flag.
    """

    UNRECORDED: ClassVar[tuple[str, ...]] = ()  # fields that do not decide what is trained

    def __post_init__(self):
        for field in self.adjustable():
            _check(field, getattr(self, field.name))

    @classmethod
    def adjustable(cls) -> tuple[dataclasses.Field, ...]:
        """The fields that flags can set."""
        return tuple(field for field in dataclasses.fields(cls) if "text" in field.metadata)

    @classmethod
    def define_flags(cls, known: Mapping[str, flags.FlagHolder] | None = None) -> dict[str, flags.FlagHolder]:
        """Defines a flag for each of those fields, None unless it is given; pass their values to `override`.

        Args:
            known: Flags of other settings, of which those of the same names serve here too.
        """
        names = {field.name: field for field in cls.adjustable()}
        shared = {name: flag for name, flag in (known or {}).items() if name in names}
        return shared | {name: _define_flag(field) for name, field in names.items() if name not in shared}

    @classmethod
    def of(cls, settings: dict) -> Self:
        """From a run's record, which may hold more; raises KeyError if a field is missing."""
        return cls(**{field.name: settings[field.name] for field in dataclasses.fields(cls)})

    def override(self, **values) -> Self:
        """A copy with other values for the fields whose value is not None; raises ValueError for impossible ones."""
        return dataclasses.replace(self, **{name: value for name, value in values.items() if value is not None})

    def settings(self) -> dict[str, bool | int | float | str]:
        """The fields that decide what is trained, for the record of a run."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in self.UNRECORDED}


def _define_flag(field: dataclasses.Field) -> flags.FlagHolder:
    """A flag that refuses what the field cannot be."""
    flag = _DEFINE[type(field.default)](field.name, None, field.metadata["text"])

    def valid(value: Any) -> bool:
        if value is not None:
            try:
                _check(field, value)
            except ValueError as error:
                raise flags.ValidationError(str(error).partition(": ")[2].rstrip(".")) from error
        return True

    flags.register_validator(field.name, valid)
    return flag


def _check(field: dataclasses.Field, value: Any) -> None:
    low, high, choices = (field.metadata[key] for key in ("low", "high", "choices"))
    if choices and value not in choices:
        raise ValueError(f"--{field.name}={value}: must be one of {', '.join(map(str, choices))}.")
    if isinstance(value, str):
        return
    if not (math.isfinite(value) and low <= value <= high):
        limits = f"between {low:g} and {high:g}" if high < math.inf else f"a number of at least {low:g}"
        raise ValueError(f"--{field.name}={value}: must be {limits}.")

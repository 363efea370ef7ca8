"""Settings that flags can change: dataclass fields with a range and a help text."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from absl import flags

_DEFINE = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}


def setting(default: Any, text: str, low: float = -math.inf, high: float = math.inf, choices: tuple = ()) -> Any:
    """Returns a field of `Settings`.

    Args:
        default: Default value; its type is the type of the flag.
        text: Help text.
        low: Minimum, for numbers.
        high: Maximum, for numbers.
        choices: Allowed values; empty for all.
    """
    metadata = {"text": text, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base of frozen dataclasses whose fields made by `setting` can be set by flags of the same names.

    Raises:
        ValueError: If a value is out of range; the message names the flag.
    """

    UNRECORDED: ClassVar[tuple[str, ...]] = ()  # fields that do not affect training

    def __post_init__(self):
        for field in self.adjustable():
            _check(field, getattr(self, field.name))

    @classmethod
    def adjustable(cls) -> tuple[dataclasses.Field, ...]:
        """Returns the fields that flags can set."""
        return tuple(field for field in dataclasses.fields(cls) if "text" in field.metadata)

    @classmethod
    def define_flags(cls, known: Mapping[str, flags.FlagHolder] | None = None) -> dict[str, flags.FlagHolder]:
        """Defines a flag for each adjustable field, with default None; pass the values to `override`.

        Args:
            known: Flags of other settings; those of the same names are reused.
        """
        names = {field.name: field for field in cls.adjustable()}
        shared = {name: flag for name, flag in (known or {}).items() if name in names}
        return shared | {name: _define_flag(field) for name, field in names.items() if name not in shared}

    @classmethod
    def of(cls, settings: dict) -> Self:
        """Creates settings from a run's record, ignoring other keys; raises KeyError if a field is missing."""
        return cls(**{field.name: settings[field.name] for field in dataclasses.fields(cls)})

    def override(self, **values) -> Self:
        """Returns a copy with the values that are not None; raises ValueError if one is out of range."""
        return dataclasses.replace(self, **{name: value for name, value in values.items() if value is not None})

    def settings(self) -> dict[str, bool | int | float | str]:
        """Returns the fields that affect training, for the record of a run."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in self.UNRECORDED}


def _define_flag(field: dataclasses.Field) -> flags.FlagHolder:
    """Defines a flag that rejects values the field does not allow."""
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

"""What can be chosen in a fine-tuning beside the network."""

import dataclasses
from collections.abc import Mapping
from typing import Any

AUTO = "auto"
METHODS = (AUTO, "head", "tune")
REFIT = (AUTO, "yes", "no")


@dataclasses.dataclass(frozen=True)
class Options:
    """Choices; each default depends on the photos.

    Attributes:
        method: "head": only the linear head; "tune": the whole network; "auto": what is better on held-out photos.
        refit: Whether to train once more on all photos in the end; "auto": if they are few and were held out by chance.
        views: Views of each photo for the linear head; None: by the number of photos.
        teacher: Path of a .keras file to learn from; "auto": see `teachers.best`; None: none.
        overrides: Values of `TrainingRecipe` other than the plan's.
        threads: Number of threads; None for all cores.
    """

    method: str = AUTO
    refit: str = AUTO
    views: int | None = None
    teacher: str | None = None
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    threads: int | None = None

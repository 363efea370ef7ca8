"""Options of a fine-tuning."""

import dataclasses
from collections.abc import Mapping
from typing import Any

AUTO = "auto"
METHODS = (AUTO, "head", "tune")
REFIT = (AUTO, "yes", "no")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a fine-tuning, whose defaults depend on the photos.

    Attributes:
        method: "head" for the linear head only, "tune" for the whole network, or "auto" for the better one on held-out
            photos.
        refit: Whether to finally train on all photos: "yes", "no", or "auto" to do so if there are few and the held-out
            photos were drawn.
        views: Number of views of each photo for the linear head; None to choose by the number of photos.
        teacher: Path of the teacher's .keras file; "auto" for `teachers.best`; None for no distillation.
        overrides: Values of `TrainingRecipe` to use instead of the plan's.
        threads: Number of threads; None for all cores.
    """

    method: str = AUTO
    refit: str = AUTO
    views: int | None = None
    teacher: str | None = None
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    threads: int | None = None

"""Flags that all training programs share."""

from typing import Any

from absl import flags

from fd_keras import zoo
from fd_keras.program import define_positive, flag_group

with flag_group("Network"):
    _NETWORK = (
        define_positive("alpha", 1.0, "Width multiplier of the network.", 100),
        flags.DEFINE_integer("groups", None, "Number of groups of a ShuffleNet (default 3).", lower_bound=1),
        define_positive("stem_multiplier", None, "Stem width of a ShuffleNet (default alpha, at least 0.5).", 100),
        flags.DEFINE_string(
            "init_weights",
            None,
            "Initial weights: imagenet, imagenet_authors or a path (default random). Detectors also accept Google's "
            "MobileNet as .tflite; they learn little from random weights, since batch normalizations are frozen.",
        ),
    )
with flag_group("Run"):
    _RUN = (
        flags.DEFINE_string("run_dir", None, "Folder of the run; created, or resumed if it exists.", required=True),
        flags.DEFINE_integer("seed", 0, "Seed of all random numbers.", lower_bound=0),
        flags.DEFINE_integer("checkpoint_every", None, "Steps between checkpoints (default 1000; detectors: 500).", 1),
        flags.DEFINE_integer("keep", 3, "Number of checkpoints to keep.", lower_bound=1),
        flags.DEFINE_integer("threads", None, "Number of threads (default all cores).", lower_bound=1),
    )


def given(model: str) -> dict:
    """Returns the flags that were passed or have a default, as fields of `run.RunConfig`.

    Raises:
        ValueError: If the network does not have these groups or this stem.
    """
    values: dict[str, Any] = {flag.name: flag.value for flag in (*_NETWORK, *_RUN) if flag.value is not None}
    zoo.get_arch(model, values.get("groups"), values.get("stem_multiplier"))
    return values

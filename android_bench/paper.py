"""Table 4 of the paper (arXiv 1802.03750): latency on one 800 MHz ARM core, FD-MobileNet against the others."""

from dataclasses import dataclass, field

BASE = "fd_mobilenet"
SIZE = [224, 224]  # height and width of its images
TITLES = {
    "fd_mobilenet": "FD-MobileNet",
    "mobilenet": "MobileNet",
    "shufflenet": "ShuffleNet",
    "fd_shufflenet": "FD-ShuffleNet",
}


@dataclass(frozen=True)
class Table4Budget:
    """The networks that the paper compares at one cost.

    Attributes:
        mflops: What the table calls the budget.
        alphas: Width of each network. FD-ShuffleNet is not in the table: it is the paper's future work.
        ratios: Latency of each network by FD-MobileNet's, as the paper's table has them.
        ms: Its milliseconds; None, as they are not quoted here.
    """

    mflops: int
    alphas: dict[str, float]
    ratios: dict[str, float]
    ms: dict[str, float | None] = field(default_factory=dict)


TABLE4 = (
    Table4Budget(
        140,
        {"fd_mobilenet": 1.0, "mobilenet": 0.5, "shufflenet": 1.0, "fd_shufflenet": 1.0},
        {"mobilenet": 1.10, "shufflenet": 1.33},
    ),
    Table4Budget(
        40,
        {"fd_mobilenet": 0.5, "mobilenet": 0.25, "shufflenet": 0.5, "fd_shufflenet": 0.5},
        {"mobilenet": 1.12, "shufflenet": 1.47},
    ),
    Table4Budget(
        12,
        {"fd_mobilenet": 0.25, "mobilenet": 0.125, "shufflenet": 0.25, "fd_shufflenet": 0.25},
        {"mobilenet": 1.11, "shufflenet": 1.82},
    ),
)

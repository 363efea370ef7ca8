"""Table 4 of the paper (arXiv 1802.03750): latency of FD-MobileNet and other networks on one 800 MHz ARM core."""

from dataclasses import dataclass

BASE = "fd_mobilenet"
SIZE = [224, 224]  # height and width of the images in Table 4
TITLES = {
    "fd_mobilenet": "FD-MobileNet",
    "mobilenet": "MobileNet",
    "shufflenet": "ShuffleNet",
    "fd_shufflenet": "FD-ShuffleNet",
}


@dataclass(frozen=True)
class Table4Budget:
    """The networks that the paper compares at one computational budget.

    Attributes:
        mflops: The budget in MFLOPs, as named in the table.
        alphas: Width multiplier of each network. FD-ShuffleNet is not in the table: it is the paper's future work.
        ms: Latency of each network in the table, in ms.
    """

    mflops: int
    alphas: dict[str, float]
    ms: dict[str, float]

    def ratio(self, arch: str) -> float | None:
        """Returns a network's time divided by FD-MobileNet's; None if the network is not in the table."""
        return self.ms[arch] / self.ms[BASE] if arch in self.ms else None


TABLE4 = (
    Table4Budget(
        140,
        {"fd_mobilenet": 1.0, "mobilenet": 0.5, "shufflenet": 1.0, "fd_shufflenet": 1.0},
        {"fd_mobilenet": 391.66, "mobilenet": 431.73, "shufflenet": 522.27},
    ),
    Table4Budget(
        40,
        {"fd_mobilenet": 0.5, "mobilenet": 0.25, "shufflenet": 0.5, "fd_shufflenet": 0.5},
        {"fd_mobilenet": 139.47, "mobilenet": 155.84, "shufflenet": 204.97},
    ),
    Table4Budget(
        12,
        {"fd_mobilenet": 0.25, "mobilenet": 0.125, "shufflenet": 0.25, "fd_shufflenet": 0.25},
        {"fd_mobilenet": 57.17, "mobilenet": 63.73, "shufflenet": 103.79},
    ),
)

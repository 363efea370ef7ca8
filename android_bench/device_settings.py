"""How to treat a device: rest, heat, patience, clocks."""

from dataclasses import dataclass
from pathlib import Path

from .errors import BenchError
from .plan import MOST_SECS, check_range

_HOTTEST = 150  # maximum of --max_temp, in degrees Celsius


@dataclass(frozen=True)
class DeviceSettings:
    """How to treat a device.

    Attributes:
        cooldown: Seconds of rest before each launch.
        max_temp: Maximum processor temperature before a launch, in degrees Celsius; None for any.
        max_wait: Maximum seconds to wait for the device to cool down.
        timeout: Seconds after which a launch is killed.
        patience: Maximum seconds to wait for a disconnected device.
        fixed_performance: Whether to fix the clocks if the device supports it.
        clean: Whether to delete our files from the device at the end.
        energy_secs: Seconds for which a model runs while its energy is measured; 0 if it is not measured.
        libraries: Folder of shared libraries for the benchmark tool, such as those of a GPU or NPU; None for none.

    Raises:
        BenchError: If a value is out of range.
    """

    cooldown: float = 1.0
    max_temp: float | None = None
    max_wait: float = 300.0
    timeout: float = 300.0
    patience: float = 600.0
    fixed_performance: bool = True
    clean: bool = False
    energy_secs: float = 0.0
    libraries: Path | None = None

    def __post_init__(self) -> None:
        check_range(0, MOST_SECS, cooldown=self.cooldown, patience=self.patience, max_wait=self.max_wait)
        check_range(1, MOST_SECS, timeout=self.timeout)
        if self.energy_secs > self.timeout / 2:
            limit = "at most half of --timeout, after which the benchmark tool is killed"
            raise BenchError(f"energy={self.energy_secs:g}s: must be {limit}")
        if self.max_temp is not None:
            check_range(1, _HOTTEST, max_temp=self.max_temp)

"""ARM cores to count on: what qemu executes, and the caches that its loads and stores are counted in.

Arm lets the maker of a chip choose the sizes of the caches, so each core here is that of one chip.
"""

from dataclasses import dataclass

from .errors import BenchError


@dataclass(frozen=True)
class Cache:
    """A level of data cache.

    Attributes:
        kib: Size in KiB.
        ways: Associativity.
        line: Bytes of a line.
    """

    kib: int
    ways: int
    line: int = 64

    def __str__(self) -> str:
        return f"{self.kib} KiB, {self.ways} ways, lines of {self.line} bytes"

    @property
    def argument(self) -> str:
        """What the plugin takes: see `cache_make` in emulator_cache.h."""
        return f"{self.kib * 1024}:{self.ways}:{self.line}"


@dataclass(frozen=True)
class Core:
    """A core.

    Attributes:
        cpu: What qemu calls the processor to execute.
        l1: First level of data cache.
        l2: Second level.
        chip: The chip whose sizes these are.
        source: Where the sizes are from.
    """

    cpu: str
    l1: Cache
    l2: Cache
    chip: str
    source: str


_BCM2712 = "Linux, arch/arm64/boot/dts/broadcom/bcm2712.dtsi, after Arm's Cortex-A76 manual (100798)"
CORES = {
    "cortex-a53": Core(
        "cortex-a53",
        Cache(32, 4),
        Cache(512, 16),
        "BCM2837 (Raspberry Pi 3)",
        "Linux, arch/arm/boot/dts/broadcom/bcm2837.dtsi, after Arm's Cortex-A53 manual (DDI 0500)",
    ),
    "cortex-a55": Core(
        "cortex-a55",
        Cache(32, 4),
        Cache(128, 4),
        "Snapdragon 845, small core",
        "Arm's Cortex-A55 manual (100442), A6.1 and A7.1; AnandTech, The Snapdragon 845 Performance Preview: 128 KiB",
    ),
    "cortex-a76": Core("cortex-a76", Cache(64, 4), Cache(512, 8), "BCM2712 (Raspberry Pi 5)", _BCM2712),
    # qemu 10.0 stops at XNNPACK's kernels for SME; signed pointers take most of its time, and cost no instructions.
    "max": Core(
        "max,sme=off,pauth=off",
        Cache(64, 4),
        Cache(512, 8),
        "BCM2712, though executing i8mm, which it does not have",
        _BCM2712,
    ),
    # It has no 64-bit instructions: those of the Cortex-A53 are executed, whose NEON has no dot product either.
    "cortex-a9": Core(
        "cortex-a53",
        Cache(32, 4, line=32),
        Cache(1024, 16, line=32),
        "i.MX 6Quad (the paper's), though executing 64-bit instructions",
        "Arm's manuals of the Cortex-A9 (DDI 0388) and of its cache controller L2C-310 (DDI 0246); NXP's IMX6DQRM",
    ),
}
DEFAULT = ("cortex-a53", "cortex-a76")


def choose(names: tuple[str, ...]) -> dict[str, Core]:
    """Returns cores by name.

    Args:
        names: Some of `CORES`; `all`, or none for `DEFAULT`.

    Raises:
        BenchError: If there is no such core.
    """
    names = tuple(CORES) if names == ("all",) else names or DEFAULT
    if unknown := next((name for name in names if name not in CORES), None):
        raise BenchError(f"--serial={unknown}: not an emulated core: choose from {', '.join(CORES)}, or all")
    return {name: CORES[name] for name in names}

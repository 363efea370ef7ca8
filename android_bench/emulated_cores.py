"""Emulated ARM cores: the processor that qemu emulates, and the modeled data caches.

Chip makers choose the cache sizes of a core, so each core here has the caches of one particular chip.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from .errors import BenchError


@dataclass(frozen=True)
class Cache:
    """A level of data cache.

    Attributes:
        kib: Size in KiB.
        ways: Associativity.
        line: Size of a line in bytes.
    """

    kib: int
    ways: int
    line: int = 64

    def __str__(self) -> str:
        return f"{self.kib} KiB, {self.ways} ways, lines of {self.line} bytes"

    @property
    def argument(self) -> str:
        """The plugin's argument for this cache; see `cache_make` in emulator_cache.h."""
        return f"{self.kib * 1024}:{self.ways}:{self.line}"


@dataclass(frozen=True)
class CycleModel:
    """A simple time model: the busier of two units, plus a stall for each cache miss.

    Each miss stalls for the full latency: there is no prefetching, and stalls do not overlap.

    Attributes:
        ghz: Clock rate in GHz.
        issue: Maximum instructions per cycle.
        simd: Cycles per Advanced SIMD instruction.
        l2: Additional cycles of a load from L2, compared with L1.
        memory_ns: Additional nanoseconds of a load from memory, compared with L2.
        source: Source of each figure.
    """

    ghz: float
    issue: int
    simd: float
    l2: int
    memory_ns: float
    source: str

    def milliseconds(self, counts: Mapping[str, int]) -> float:
        """Returns the estimated time of an inference.

        Args:
            counts: Counts of an inference, see `schema.COUNTERS`.
        """
        busy = max(counts["instructions"] / self.issue, counts["simd"] * self.simd)
        cycles = busy + counts["l1_misses"] * self.l2
        return (cycles / self.ghz + counts["l2_misses"] * self.memory_ns) / 1e6


@dataclass(frozen=True)
class Core:
    """An emulated core.

    Attributes:
        cpu: qemu's name of the processor.
        l1: Level 1 data cache.
        l2: Level 2 cache.
        chip: Chip with these caches.
        source: Sources of sizes, ways and lines, and assumptions.
        timing: Time model; None if no source for its figures was found.
    """

    cpu: str
    l1: Cache
    l2: Cache
    chip: str
    source: str
    timing: CycleModel | None = None


_BCM2712 = "Linux, arch/arm64/boot/dts/broadcom/bcm2712.dtsi"
CORES = {
    "cortex-a53": Core(
        "cortex-a53",
        Cache(32, 4),
        Cache(512, 16),
        "BCM2837 (Raspberry Pi 3)",
        "Linux, arch/arm/boot/dts/broadcom/bcm2837.dtsi",
    ),
    "cortex-a55": Core(
        "cortex-a55",
        Cache(32, 4),
        Cache(128, 4),
        "Snapdragon 845, small core",
        "Ways and lines: Arm's Cortex-A55 manual (100442), A6.1 and A7.1. L2 size: AnandTech, The Snapdragon 845 "
        "Performance Preview. L1 size: assumed, the manual allows 16, 32 or 64 KiB",
    ),
    "cortex-a76": Core("cortex-a76", Cache(64, 4), Cache(512, 8), "BCM2712 (Raspberry Pi 5)", _BCM2712),
    # qemu 10.0 aborts in XNNPACK's SME kernels. Without pointer authentication it is twice as fast, and
    # executes as many instructions.
    "max": Core(
        "max,sme=off,pauth=off",
        Cache(64, 4),
        Cache(512, 8),
        "BCM2712 (which does not have the i8mm instructions that are executed)",
        _BCM2712,
    ),
    # A Cortex-A9 has no 64-bit instructions, so a Cortex-A53 is emulated, which has no dot product either.
    "cortex-a9": Core(
        "cortex-a53",
        Cache(32, 4, line=32),
        Cache(1024, 16, line=32),
        "i.MX 6Quad (which does not have the 64-bit instructions that are executed)",
        "L1 ways and lines: Arm's Cortex-A9 manual (DDI 0388), 7.1. L1 size: ITProPortal, Freescale unveils i.MX 6 "
        "quad-core ARM chip. L2 size and ways: OP-TEE, core/arch/arm/plat-imx/config/imx6qdlsolo.h. L2 lines: Linux, "
        "arch/arm/mm/cache-l2x0.c",
        CycleModel(
            ghz=0.8,
            issue=2,
            simd=2.4,
            l2=19,
            memory_ns=110,
            source="Clock: the paper. Issue: GCC, gcc/config/arm/cortex-a9.md. SIMD: Grant Tao, The computing power of "
            "the four Cortex-A9 cores in i.MX6 Q, NXP community, 2013: 3.98 GFLOP/s of vmla.f32 at 1.2 GHz. L2 and "
            "memory: measured on an Exynos 4210, 7-cpu.com/cpu/Cortex-A9.html; those of the i.MX 6 were not found",
        ),
    ),
}
DEFAULT = ("cortex-a53", "cortex-a76")


def choose(names: tuple[str, ...]) -> dict[str, Core]:
    """Returns cores by name.

    Args:
        names: Some of `CORES`, or only `all`; `DEFAULT` if empty.

    Raises:
        BenchError: If a name is unknown.
    """
    names = tuple(CORES) if names == ("all",) else names or DEFAULT
    if unknown := next((name for name in names if name not in CORES), None):
        raise BenchError(f"--serial={unknown}: not an emulated core; choose from {', '.join(CORES)}, or all")
    return {name: CORES[name] for name in names}

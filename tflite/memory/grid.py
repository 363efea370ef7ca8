"""Estimates networks of many widths and resolutions as int8 and int4 files, whole and in strips, and which fit."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

from fd_keras import spec, zoo
from fd_keras.progress import progress
from fd_keras.spec import Arch
from fd_keras.tflite.format.network import FileNetwork
from fd_keras.tflite.memory.arena import plan, tflm_bytes
from fd_keras.tflite.memory.byte_sizes import kib
from fd_keras.tflite.memory.estimate import converted, file_bytes
from fd_keras.tflite.memory.scratch import TFLM, KernelLibrary

RECIPES = ("int8", "int4")
PAPER_SIZE = 224  # image side in pixels for the published accuracies


@dataclasses.dataclass(frozen=True)
class DeviceLimits:
    """Available bytes of RAM and of flash on a device, and its kernel library."""

    ram: int
    flash: int
    kernels: KernelLibrary = TFLM


@dataclasses.dataclass(frozen=True)
class GridCell:
    """Cost of one network with one recipe, whole or in strips.

    Attributes:
        arch: Key of `zoo.ARCHS`.
        alpha: Width multiplier.
        size: Side of the square image in pixels.
        recipe: "int8" or "int4".
        strips: Number of strips that the first layers run in; 1 for a whole network.
        macs: Multiply-accumulates for one image.
        flash: Bytes of the .tflite file, within 2%.
        activations: Bytes of the planned arena, including scratch memory: exact for MobileNets, within 5% for
            ShuffleNets, since the converter may run the branches of a unit in another order.
        tflm: Bytes of TFLM's tables, an upper estimate.
        top1: Published ImageNet top-1 of the float network with 1000 classes in percent; None if there is none.
    """

    arch: str
    alpha: float
    size: int
    recipe: str
    strips: int
    macs: int
    flash: int
    activations: int
    tflm: int
    top1: float | None

    @property
    def ram(self) -> int:
        """Total bytes of TFLM's arena."""
        return self.activations + self.tflm

    @property
    def title(self) -> str:
        """Name of the network, such as "FD-MobileNet 0.25x"."""
        return f"{zoo.get_arch(self.arch).title} {self.alpha:g}x"

    @property
    def form(self) -> str:
        """Recipe and strips, such as "int8 in 2 strips"."""
        return self.recipe + (f" in {self.strips} strips" if self.strips > 1 else "")

    def fits(self, limits: DeviceLimits) -> bool:
        """Whether the network fits a device."""
        return self.ram <= limits.ram and self.flash <= limits.flash


def grid(
    archs: Iterable[Arch], alphas: Sequence[float], sizes: Sequence[int], classes: int, limits: DeviceLimits
) -> Iterator[GridCell]:
    """Yields the cost of each combination; raises ValueError for an impossible width, size or number of classes.

    If a file fits but its arena does not, the network is also tried in strips.
    """
    combinations = list(itertools.product(archs, alphas, sizes, RECIPES))
    for arch, alpha, size, recipe in progress(combinations, unit="networks"):
        network, whole = cell(arch, alpha, size, classes, recipe, limits.kernels)
        yield whole
        if whole.flash <= limits.flash and whole.ram > limits.ram:
            yield from _in_strips(network, whole, limits)


def cell(
    arch: Arch, alpha: float, size: int, classes: int, recipe: str, kernels: KernelLibrary = TFLM
) -> tuple[FileNetwork, GridCell]:
    """Estimates a network; returns it, and its cost as a whole."""
    ops = spec.lower(arch, alpha, (size, size), classes=classes)
    network = converted(arch, ops, (size, size), four_bits=recipe == "int4")
    published = [row.top1 for row in zoo.PAPER_TABLE2 if (row.arch, row.alpha) == (arch.name, alpha)]
    found = GridCell(
        arch.name,
        alpha,
        size,
        recipe,
        strips=1,
        macs=sum(op.macs for op in ops),
        flash=file_bytes(network),
        activations=plan(network, kernels).arena,
        tflm=tflm_bytes(network),
        top1=published[0] if published and size == PAPER_SIZE else None,
    )
    return network, found


def _in_strips(network: FileNetwork, whole: GridCell, limits: DeviceLimits) -> Iterator[GridCell]:
    """Yields the cost with the fewest MACs in strips that fit, or else the least RAM; none if strips save no RAM."""
    from fd_keras.tflite.format.flatbuffer import network_of  # needs LiteRT, unlike the rest of the module
    from fd_keras.tflite.memory.table_model import model_of
    from fd_keras.tflite.strips.search import trade

    front = trade(model_of(network), limits.kernels)[1:]
    fitting = [plan for plan in front if plan.ram <= limits.ram]
    for chosen in (fitting or front[-1:])[:1]:
        planned = network_of(chosen.model)
        plan_bytes = 4 * len(planned.offsets)  # of the memory plan in the file
        yield dataclasses.replace(
            whole,
            strips=chosen.strips,
            macs=chosen.macs,
            flash=file_bytes(planned) + plan_bytes,
            activations=chosen.activations,
            tflm=chosen.tflm,
        )


def most_accurate(cells: Iterable[GridCell], recipe: str, limits: DeviceLimits) -> GridCell | None:
    """The most accurate network of a recipe that fits and has a published accuracy; of equals, the fewest MACs."""
    known = [cell for cell in cells if cell.recipe == recipe and cell.fits(limits) and cell.top1 is not None]
    return max(known, key=lambda cell: (cell.top1, -cell.macs), default=None)


def largest(cells: Iterable[GridCell], recipe: str, limits: DeviceLimits) -> GridCell | None:
    """The network of a recipe with the most MACs that fits."""
    fitting = [cell for cell in cells if cell.recipe == recipe and cell.fits(limits)]
    return max(fitting, key=lambda cell: cell.macs, default=None)


def records(cells: Sequence[GridCell], limits: DeviceLimits) -> list[dict]:
    """Converts the grid to data for JSON."""
    accurate = [most_accurate(cells, recipe, limits) for recipe in RECIPES]
    biggest = [largest(cells, recipe, limits) for recipe in RECIPES]
    return [
        {
            **dataclasses.asdict(cell),
            "ram": cell.ram,
            "fits": cell.fits(limits),
            "most_accurate": cell in accurate,
            "most_macs": cell in biggest,
        }
        for cell in cells
    ]


def table(cells: Sequence[GridCell], limits: DeviceLimits) -> str:
    """Formats the grid, with a line for each network: both recipes, whole and in strips, and what fits."""
    lines = [
        f"{'':20} {'':4} {'million':>7} {'':>5}  {'int8: KiB of':^29}  {'int4: KiB of':^29}",
        f"{'network':20} {'size':>4} {'MACs':>7} {'top-1':>5}  "
        + "  ".join([f"{'flash':>7} {'RAM':>7} {'in strips':>13}"] * 2)
        + "  fits as",
    ]
    for _, group in itertools.groupby(cells, key=lambda cell: (cell.arch, cell.alpha, cell.size)):
        lines.append(_line(list(group), limits).rstrip())
    return "\n".join([*lines, "", *_answers(cells, limits)])


def _line(cells: Sequence[GridCell], limits: DeviceLimits) -> str:
    first, parts = cells[0], []
    for recipe in RECIPES:
        whole, *strips = (cell for cell in cells if cell.recipe == recipe)
        split = f"{strips[0].ram / 1024:.1f} ({strips[0].strips})" if strips else ""
        parts.append(f"{whole.flash / 1024:7.1f} {whole.ram / 1024:7.1f} {split:>13}")
    top1 = f"{first.top1:.1f}" if first.top1 else ""
    fitting = ", ".join(cell.form for cell in cells if cell.fits(limits)) or "-"
    return f"{first.title:20} {first.size:4} {first.macs / 1e6:7.1f} {top1:>5}  {'  '.join(parts)}  {fitting}"


def _answers(cells: Sequence[GridCell], limits: DeviceLimits) -> Iterator[str]:
    yield f"{kib(limits.ram)} of RAM and {kib(limits.flash)} of flash, with {limits.kernels.title}:"
    for recipe in RECIPES:
        accurate, biggest = (choose(cells, recipe, limits) for choose in (most_accurate, largest))
        if biggest is None:
            yield f"{recipe}: nothing fits"
            continue
        if accurate:
            yield f"{recipe}: most accurate is {_named(accurate)}, top-1 {accurate.top1}%"
        if biggest != accurate:
            yield f"{recipe}: {_named(biggest)} has the most MACs, {biggest.macs / 1e6:.1f} million"
    yield f"top-1: of the float network on ImageNet at {PAPER_SIZE} ({zoo.PAPER}, table 2); int4 loses some of it"


def _named(cell: GridCell) -> str:
    strips = f" in {cell.strips} strips" if cell.strips > 1 else ""
    return f"{cell.title} at {cell.size}x{cell.size}{strips}"

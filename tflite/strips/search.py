"""Chooses the layers to run in strips and where the strips end: the fewest extra MACs within a device's RAM."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

from fd_keras.tflite.format.flatbuffer import network_of
from fd_keras.tflite.format.network import FileNetwork
from fd_keras.tflite.memory.arena import plan, tflm_bytes
from fd_keras.tflite.memory.byte_sizes import kib
from fd_keras.tflite.memory.scratch import TFLM, KernelLibrary
from fd_keras.tflite.strips.placement import with_plan
from fd_keras.tflite.strips.rewrite import MOST_STRIPS, Region, in_strips, regions


@dataclasses.dataclass(frozen=True)
class StripPlan:
    """A network, whole or in strips, with its RAM and MACs.

    Attributes:
        model: The network, a `schema.ModelT`; with strips, its memory plan is included.
        activations: Bytes of activations in the planned arena.
        tflm: Bytes of TFLM's tables, an upper estimate.
        macs: Multiply-accumulates for one image.
        shape: Shape of the tensor that is concatenated from the strips; empty without strips.
        cuts: Rows of that tensor where strips begin and end; empty without strips.
    """

    model: Any
    activations: int
    tflm: int
    macs: int
    shape: tuple[int, ...] = ()
    cuts: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, model: Any, kernels: KernelLibrary, shape: tuple[int, ...] = (), cuts: tuple[int, ...] = ()
    ) -> "StripPlan":
        """Plans the memory of a network."""
        network = network_of(model)
        return cls(model, plan(network, kernels).arena, tflm_bytes(network), network.all_macs, shape, cuts)

    @property
    def strips(self) -> int:
        """Number of strips."""
        return max(1, len(self.cuts) - 1)

    @property
    def ram(self) -> int:
        """Bytes of TFLM's whole arena."""
        return self.activations + self.tflm


def trade(model: Any, kernels: KernelLibrary = TFLM) -> list[StripPlan]:
    """Computes the trade-off of RAM and MACs.

    Args:
        model: The network, a `schema.ModelT`.
        kernels: Kernel library that runs the network.

    Returns:
        The whole network, then networks in strips, with decreasing RAM and increasing MACs.
    """
    front = [StripPlan.of(model, kernels)]
    for candidate in sorted(_candidates(model, kernels), key=lambda candidate: (candidate.macs, candidate.ram)):
        if candidate.ram < front[-1].ram:
            front.append(candidate)
    return front


def fitting(front: Sequence[StripPlan], ram: int) -> StripPlan:
    """Selects the plan with the fewest MACs that fits into `ram` bytes.

    Args:
        front: Result of `trade`.
        ram: Limit of TFLM's arena in bytes.

    Raises:
        ValueError: If no plan fits; the message has the minimum RAM.
    """
    for candidate in front:
        if candidate.ram <= ram:
            return candidate
    least = front[-1]
    raise ValueError(
        f"needs at least {kib(least.ram)} of RAM ({kib(least.activations)} of activations, {kib(least.tflm)} of TFLM's "
        f"tables); use a smaller image or a narrower network, or raise the limit."
    )


def table(front: Sequence[StripPlan], chosen: StripPlan | None) -> str:
    """Formats the trade-off as text."""
    lines = ["strips  joined at    activations + TFLM's tables = RAM KiB  MACs"]
    for candidate in front:
        extra = f"+{100 * (candidate.macs / front[0].macs - 1):.1f}%"
        mark = "  <- chosen" if candidate is chosen else ""
        lines.append(
            f"{candidate.strips if candidate.cuts else 'none':>6}  {'x'.join(map(str, candidate.shape[1:])):11}  "
            f"{candidate.activations / 1024:11.1f} + {candidate.tflm / 1024:13.1f} = "
            f"{candidate.ram / 1024:7.1f}  {extra}{mark}"
        )
    return "\n".join(lines)


def facts(front: Sequence[StripPlan], chosen: StripPlan) -> dict:
    """Facts about the strips for a file's .json."""
    whole = {"activations": front[0].activations, "tflm": front[0].tflm, "macs": front[0].macs}
    ours = {"activations": chosen.activations, "tflm": chosen.tflm, "macs": chosen.macs}
    return {"count": chosen.strips, "shape": list(chosen.shape), "cuts": list(chosen.cuts), **ours, "whole": whole}


def _candidates(model: Any, kernels: KernelLibrary) -> Iterator[StripPlan]:
    """Yields promising networks in strips; each is planned exactly."""
    network = network_of(model)
    for region in regions(model):
        shape = network.tensors[region.target].shape
        for cuts in sorted(_partitions(network, region)):
            yield StripPlan.of(with_plan(in_strips(model, region, cuts)), kernels, shape, cuts)


def _partitions(network: FileNetwork, region: Region) -> set[tuple[int, ...]]:
    """Candidate cuts: for each height of the lowest strip, the other strips are as high as its memory peak allows.

    The lowest strip runs first, while the whole image is in memory. The others can overwrite image rows that are no
    longer needed, so they can be higher.
    """
    peaks, found = _Peaks(network, region), set()
    for height in range(1, region.height):
        budget, cuts = peaks.of(region.height - height, region.height), [region.height]
        while cuts[-1] and len(cuts) <= MOST_STRIPS:
            cuts.append(next((first for first in range(cuts[-1]) if peaks.of(first, cuts[-1]) <= budget), cuts[-1]))
        if not cuts[-1] and len(cuts) > 2:
            found.add(tuple(cuts[::-1]))
    return found


class _Peaks:
    """Estimates the peak memory of a strip in bytes, to choose candidates; the exact plan is computed later."""

    def __init__(self, network: FileNetwork, region: Region):
        tensors = {region.source, *(part.output for part in region.layers)}
        self._region = region
        self._bytes = {i: network.tensors[i].bytes // network.tensors[i].shape[1] for i in tensors}  # of a row
        self.of = functools.cache(self._peak)

    def _peak(self, first: int, end: int) -> int:
        region, needed = self._region, self._region.needed((first, end))
        taken = {index: (span[1] - span[0]) * self._bytes.get(index, 0) for index, span in needed.items()}
        work = max(
            taken[part.output] + sum(taken[index] for index in part.reads(needed[part.output]))
            for part in region.layers
            if part.output in needed
        )
        made = (region.height - end) * self._bytes[region.target]
        slicing = self._image(end) + taken[region.source]
        return made + max(slicing, self._image(first) + work)

    def _image(self, end: int) -> int:
        """Bytes of the image that the target rows before `end` need."""
        return self._region.needed((0, end))[self._region.source][1] * self._bytes[self._region.source] if end else 0

"""Chooses which layers run in strips, and where the strips end: the least extra work within the RAM of a device."""

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
    """A network, whole or in strips, and what it needs.

    Attributes:
        model: It, a `schema.ModelT`; in strips with a plan of its memory.
        activations: Bytes of the planned arena.
        tflm: Bytes that TFLM needs beside that, an upper estimate.
        macs: Multiply-accumulates for one image.
        shape: Shape of the tensor that the strips make; empty: there are none.
        cuts: The rows of it at which strips begin and end.
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
    """What RAM can be had for which work: the network as it is, then ever less RAM for ever more MACs.

    Args:
        model: The network, a `schema.ModelT`.
        kernels: Whose kernels run it.
    """
    front = [StripPlan.of(model, kernels)]
    for candidate in sorted(_candidates(model, kernels), key=lambda candidate: (candidate.macs, candidate.ram)):
        if candidate.ram < front[-1].ram:
            front.append(candidate)
    return front


def fitting(front: Sequence[StripPlan], ram: int) -> StripPlan:
    """The first of `trade` that needs at most so many bytes.

    Raises:
        ValueError: If none does; it has the least RAM that can be reached.
    """
    for candidate in front:
        if candidate.ram <= ram:
            return candidate
    least = front[-1]
    raise ValueError(
        f"needs at least {kib(least.ram)} of RAM ({kib(least.activations)} of activations, {kib(least.tflm)} of TFLM's "
        f"tables); take a smaller --size or --alpha, or allow more."
    )


def table(front: Sequence[StripPlan], chosen: StripPlan | None) -> str:
    """The trade as text."""
    lines = ["strips  activations + TFLM's tables = RAM KiB  MACs"]
    for candidate in front:
        extra = f"+{100 * (candidate.macs / front[0].macs - 1):.1f}%"
        mark = "  <- chosen" if candidate is chosen else ""
        lines.append(
            f"{candidate.strips:6}  {candidate.activations / 1024:11.1f} + {candidate.tflm / 1024:13.1f} = "
            f"{candidate.ram / 1024:7.1f}  {extra}{mark}"
        )
    return "\n".join(lines)


def facts(front: Sequence[StripPlan], chosen: StripPlan) -> dict:
    """What a file's .json says about its strips."""
    whole = {"activations": front[0].activations, "tflm": front[0].tflm, "macs": front[0].macs}
    ours = {"activations": chosen.activations, "tflm": chosen.tflm, "macs": chosen.macs}
    return {"count": chosen.strips, "shape": list(chosen.shape), "cuts": list(chosen.cuts), **ours, "whole": whole}


def _candidates(model: Any, kernels: KernelLibrary) -> Iterator[StripPlan]:
    """Networks in strips worth considering; each is planned exactly."""
    network = network_of(model)
    for region in regions(model):
        shape = network.tensors[region.target].shape
        for cuts in sorted(_partitions(network, region)):
            yield StripPlan.of(with_plan(in_strips(model, region, cuts)), kernels, shape, cuts)


def _partitions(network: FileNetwork, region: Region) -> set[tuple[int, ...]]:
    """Cuts in which the lowest strip has any height, and each other is as high as fits in the memory that this takes.

    The lowest strip runs first and meets the whole image; others find room where rows are not needed any more.
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
    """About how many bytes are alive at most while a strip runs; the exact plan follows."""

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
        """Bytes of the image that rows up to this one of the target need."""
        return self._region.needed((0, end))[self._region.source][1] * self._bytes[self._region.source] if end else 0

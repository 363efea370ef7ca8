"""The report of `fd-keras memory`: a file's needs, and the grid of networks, as data and as text."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fd_keras.tflite.memory import arrangement
from fd_keras.tflite.memory.arena import ArenaBuffer, ArenaPlan, in_place_bytes, plan, tflm_bytes
from fd_keras.tflite.memory.byte_sizes import kib
from fd_keras.tflite.memory.estimate import GridCell

if TYPE_CHECKING:
    from fd_keras.tflite.format.flatbuffer import TFLiteFile  # which needs LiteRT; the grid does not


def report(path: str, file: "TFLiteFile", whole: ArenaPlan) -> dict:
    """What a file needs: bytes and MACs, in all and by op, and every tensor's place in the arena."""
    network = file.network
    return {
        "file": path,
        "flash": {"bytes": file.bytes, "weights": file.weights, "scales": file.scales},
        "activations": whole.arena,
        "planned": bool(network.offsets),
        "for_phones": arrangement.is_for_phones(network),
        "tflm": tflm_bytes(network),
        "fused": plan(network.fused()).arena,
        "in_place": in_place_bytes(network.fused()),
        "macs": network.all_macs,
        "peak": whole.peak,
        "ops": [_op(whole, time) for time in range(len(network.ops))],
        "arena": [_place(whole, buffer) for buffer in whole.buffers],
    }


def _op(whole: ArenaPlan, time: int) -> dict:
    network, op = whole.network, whole.network.ops[time]
    constants = [network.tensors[index].bytes for index in op.inputs if network.tensors[index].constant]
    shape = list(network.tensors[op.outputs[0]].shape)
    return {
        "kind": op.kind,
        "shape": shape,
        "macs": network.macs(op),
        "weights": sum(constants),
        "alive": whole.live_bytes(time),
    }


def _place(whole: ArenaPlan, buffer: ArenaBuffer) -> dict:
    tensor = whole.network.tensors[buffer.tensor]
    facts = {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}
    return facts | {key: getattr(buffer, key) for key in ("bytes", "first", "last", "offset")}


def tables(facts: dict, ram: int, flash: int) -> str:
    """A file's needs as text, and whether a device with so many bytes of RAM and flash to spare can run it."""
    needed = facts["activations"] + facts["tflm"]
    blocks = [_op_table(facts), _peak(facts), _totals(facts)]
    blocks += [f"warning: this file is {arrangement.ADVICE}"] if facts["for_phones"] else []
    return "\n\n".join([*blocks, verdict(needed, facts["flash"]["bytes"], ram, flash)])


def _sides(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _op_table(facts: dict) -> str:
    lines = [f"{'op':>4}  {'kind':18} {'output':>17} {'MACs':>11} {'weights':>9}  alive meanwhile"]
    for number, op in enumerate(facts["ops"]):
        mark = "  <- peak" if number == facts["peak"] else ""
        lines.append(
            f"{number:4}  {op['kind']:18} {_sides(op['shape']):>17} {op['macs']:11,} {op['weights']:9,}  "
            f"{op['alive']:15,}{mark}"
        )
    return "\n".join(lines)


def _peak(facts: dict) -> str:
    peak = facts["peak"]
    alive = [tensor for tensor in facts["arena"] if tensor["first"] <= peak <= tensor["last"]]
    lines = [f"bytes alive during op {peak}, {facts['ops'][peak]['kind']}:"]
    for t in sorted(alive, key=lambda tensor: -tensor["bytes"]):
        lines.append(
            f"{t['bytes']:11,}  {t['dtype'].lower()} {_sides(t['shape'])} {t['name']!r}, alive from op {t['first']} "
            f"to {t['last']}, at offset {t['offset']:,}"
        )
    return "\n".join(lines)


def _totals(facts: dict) -> str:
    size = facts["flash"]
    rest = size["bytes"] - size["weights"] - size["scales"]
    parts = f"weights {size['weights']:,}, scales and zero points {size['scales']:,}, tables {rest:,}"
    planner = "the file plans" if facts["planned"] else "TFLM plans"
    rows = [
        ("MACs", facts["macs"], f"{facts['macs'] / 1e6:.1f} million"),
        ("flash", size["bytes"], f"{kib(size['bytes'])}: {parts}"),
        ("activations", facts["activations"], f"{kib(facts['activations'])}, as {planner} them"),
        ("TFLM's tables", facts["tflm"], f"{kib(facts['tflm'])} beside them, about"),
    ]
    copying = [
        ("fused", facts["fused"], f"{kib(facts['fused'])}: activations if a compiler drops the ops that only copy"),
        ("in place", facts["in_place"], f"{kib(facts['in_place'])}: and that writes outputs over inputs, at best"),
    ]
    rows += [] if facts["planned"] else copying  # a plan in the file overlaps tensors already
    return "\n".join(f"{name:13} {number:11,}  {note}" for name, number, note in rows)


def verdict(ram_needed: int, flash_needed: int, ram: int, flash: int) -> str:
    """Whether it fits, in words."""
    missing = [
        f"needs {kib(needed - limit)} more {what}"
        for what, needed, limit in (("RAM", ram_needed, ram), ("flash", flash_needed, flash))
        if needed > limit
    ]
    return f"{kib(ram)} of RAM and {kib(flash)} of flash: {', '.join(missing) or 'fits'}"


def grid_records(cells: Sequence[GridCell], chosen: GridCell | None, ram: int, flash: int) -> list[dict]:
    """The grid as data."""
    return [
        {**dataclasses.asdict(cell), "ram": cell.ram, "fits": cell.fits(ram, flash), "best": cell == chosen}
        for cell in cells
    ]


def grid_table(cells: Sequence[GridCell], chosen: GridCell | None, ram: int, flash: int) -> str:
    """The grid as text; what fits is marked, and of that what has most MACs."""
    lines = ["alpha  size  million MACs  flash KiB  activations + TFLM's tables = RAM KiB"]
    for cell in cells:
        mark = "best" if cell == chosen else "fits" if cell.fits(ram, flash) else ""
        lines.append(
            f"{cell.alpha:5g}  {cell.size:4}  {cell.macs / 1e6:12.1f}  {cell.flash / 1024:9.1f}  "
            f"{cell.activations / 1024:11.1f} + {cell.tflm / 1024:13.1f} = {cell.ram / 1024:7.1f}  {mark}".rstrip()
        )
    found = f"best: alpha {chosen.alpha:g} at {chosen.size}x{chosen.size}" if chosen else "nothing fits"
    return "\n".join([*lines, "", f"{kib(ram)} of RAM and {kib(flash)} of flash: {found}"])

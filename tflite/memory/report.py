"""Reports the RAM, flash and MACs that a file needs, as data and as text, for `fd-keras memory`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fd_keras.tflite.memory import arrangement
from fd_keras.tflite.memory.arena import ArenaBuffer, ArenaPlan, in_place_bytes, plan, tflm_bytes
from fd_keras.tflite.memory.byte_sizes import kib
from fd_keras.tflite.memory.scratch import CORTEX_M, ESP_NN

if TYPE_CHECKING:
    from fd_keras.tflite.format.flatbuffer import TFLiteFile  # which needs LiteRT


def report(path: str, file: "TFLiteFile", whole: ArenaPlan) -> dict:
    """Collects a file's bytes and MACs, in total and by op, and the place of each tensor in the arena."""
    network = file.network
    return {
        "file": path,
        "flash": {"bytes": file.bytes, "weights": file.weights, "scales": file.scales},
        "activations": whole.arena,
        "planned": bool(network.offsets),
        "for_phones": arrangement.is_for_phones(network),
        "with_kernels": {library.title: plan(network, library).arena for library in (*CORTEX_M, ESP_NN)},
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


def tables(facts: dict, fit: str) -> str:
    """Formats a report as text; `fit` is the last part, such as the result of `verdict`."""
    blocks = [_op_table(facts), _peak(facts), _totals(facts)]
    blocks += [f"warning: this file is {arrangement.ADVICE}"] if facts["for_phones"] else []
    return "\n\n".join([*blocks, fit])


def _sides(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _op_table(facts: dict) -> str:
    lines = [f"{'op':>4}  {'kind':18} {'output':>17} {'MACs':>11} {'weights':>9}     bytes in use"]
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
        *_with_kernels(facts["with_kernels"]),
        ("TFLM's tables", facts["tflm"], f"about {kib(facts['tflm'])} more"),
    ]
    copying = [
        ("fused", facts["fused"], f"{kib(facts['fused'])}: activations if a compiler drops the ops that only copy"),
        ("in place", facts["in_place"], f"{kib(facts['in_place'])}: and that writes outputs over inputs, at best"),
    ]
    rows += [] if facts["planned"] else copying  # a plan in the file overlaps tensors already
    return "\n".join(f"{name:13} {number:11,}  {note}" for name, number, note in rows)


def _with_kernels(arenas: dict[str, int]) -> list[tuple[str, int, str]]:
    largest = {"CMSIS-NN": max(arenas[library.title] for library in CORTEX_M), "ESP-NN": arenas[ESP_NN.title]}
    note = "activations with the scratch memory of these kernels"
    return [(f"by {name}", size, f"{kib(size)}: {note}") for name, size in largest.items()]


def verdict(ram_needed: int, flash_needed: int, ram: int, flash: int) -> str:
    """Formats whether a network fits the limits; all arguments are in bytes."""
    missing = [
        f"needs {kib(needed - limit)} more {what}"
        for what, needed, limit in (("RAM", ram_needed, ram), ("flash", flash_needed, flash))
        if needed > limit
    ]
    return f"{kib(ram)} of RAM and {kib(flash)} of flash: {', '.join(missing) or 'fits'}"

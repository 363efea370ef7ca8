"""Plots an arena: each tensor is a rectangle from its first to its last op, and from its first to its last byte."""

from fd_keras.io import write_figure
from fd_keras.tflite.format.network import COPIES, FileNetwork
from fd_keras.tflite.memory.arena import ArenaBuffer, ArenaPlan

# Colors by the kind of op that writes the tensor; other kinds are "other".
_COLORS = {"input": "0.55", "copy": "#e08a2c", "convolution": "#3b6fb6", "depthwise": "#4fa58a", "other": "#a58ac0"}
_LINE, _TEXT = 0.015, (0.055, 0.2)  # height of a text line, and its length along x and y, as a share of the plot
_MOST_NAMES = 60  # maximum number of op names that are legible side by side


def arena_plot(path: str, whole: ArenaPlan) -> None:
    """Plots the arena to a file, in the format of its suffix; see `fd_keras.io.check_figure`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    _draw_arena(figure.subplots(), whole)
    write_figure(path, figure)


def _draw_arena(axes, whole: ArenaPlan) -> None:
    network = whole.network
    _draw_buffers(axes, whole)
    top = whole.arena / 1024
    axes.axhline(top, color="0.2", linewidth=0.8, linestyle="--")
    axes.annotate(f"arena: {top:.1f} KiB", (len(network.ops), top), (0, 3), textcoords="offset points", ha="right")
    names = [op.kind.removesuffix("_2D").replace("_", " ").lower() for op in network.ops]
    if len(names) <= _MOST_NAMES:
        axes.set_xticks([time + 0.5 for time in range(len(names))], names, rotation=90)
        axes.tick_params("x", length=0, labelsize=8)
    else:
        axes.set_xlabel("number of the op")
    axes.set(xlim=(0, len(names)), ylim=(0, 1.06 * top), ylabel="offset in the arena, KiB")
    axes.spines[["top", "right"]].set_visible(False)
    entries = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    present = [kind for kind in _COLORS if kind in entries]
    axes.legend(
        [entries[kind] for kind in present],
        present,
        frameon=False,
        title="tensors, by what writes them",
        loc="upper right",
        bbox_to_anchor=(1, 0.92),
    )


def _draw_buffers(axes, whole: ArenaPlan) -> None:
    seen = set()
    for buffer in whole.buffers:
        kind = _maker(whole.network, buffer)
        axes.bar(
            buffer.first,
            buffer.bytes / 1024,
            width=buffer.last - buffer.first + 1,
            bottom=buffer.offset / 1024,
            align="edge",
            color=_COLORS[kind],
            edgecolor="white",
            linewidth=0.8,
            label=None if kind in seen else kind,
        )
        seen.add(kind)
        _label(axes, whole, buffer)


def _maker(network: FileNetwork, buffer: ArenaBuffer) -> str:
    """The kind of op that writes a tensor."""
    kinds = [op.kind for op in network.ops if buffer.tensor in op.outputs] or ["input"]
    if kinds[0] in COPIES:
        return "copy"
    return {"input": "input", "CONV_2D": "convolution", "DEPTHWISE_CONV_2D": "depthwise"}.get(kinds[0], "other")


def _label(axes, whole: ArenaPlan, buffer: ArenaBuffer) -> None:
    """Writes the shape into a rectangle that is large enough for it."""
    wide, tall = (buffer.last - buffer.first + 1) / len(whole.network.ops), buffer.bytes / whole.arena
    if not (wide > _TEXT[0] and tall > 2 * _LINE or wide > _LINE and tall > _TEXT[1]):
        return
    shape = "x".join(map(str, whole.network.tensors[buffer.tensor].shape[1:]))
    middle = (buffer.first + buffer.last + 1) / 2, (buffer.offset + buffer.bytes / 2) / 1024
    upright = 90 if tall > _TEXT[1] else 0
    axes.annotate(shape, middle, ha="center", va="center", color="white", fontsize=7, rotation=upright)

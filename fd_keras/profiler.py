"""Prints MACs and parameters: the paper's tables 1 and 2, any single network, or a saved model.

    python -m fd_keras.profiler                      tables 1 and 2, our figures and the paper's
    python -m fd_keras.profiler --model=fd_mobilenet --alpha=0.35 --size=160
    python -m fd_keras.profiler my.keras             a saved model
    python -m fd_keras.profiler --plot=fig.png       figure 1: how fast each network downsamples the image

FLOPs are multiply-accumulates, as in the paper; see `fd_keras.cost`.
"""

import argparse
import csv
import dataclasses
import itertools
import math
import sys
from collections.abc import Sequence

from fd_keras import zoo
from fd_keras.cli import parse_args, program_name, run_module, summary
from fd_keras.cost import CLASSIFIER, Profile, layer_reaching, profile, profile_ops
from fd_keras.imagenet import SIZE
from fd_keras.io import check_figure, write_figure
from fd_keras.spec import Arch, Op, lower


@dataclasses.dataclass(frozen=True)
class Network:
    """A network to print.

    Attributes:
        arch: Table of the network.
        alpha: Width multiplier.
        paper: The paper's figures; None for networks that are not in the paper.
    """

    arch: Arch
    alpha: float
    paper: zoo.PaperRow | None = None

    @property
    def title(self) -> str:
        """For example "FD-MobileNet 0.5x"."""
        return f"{self.arch.title} {self.alpha:g}x"

    def ops(self, size: tuple[int, int] = (SIZE, SIZE)) -> tuple[Op, ...]:
        """The lowered network for images of (height, width)."""
        return lower(self.arch, self.alpha, size)


def networks() -> list[Network]:
    """The paper's nine networks, with this package's additional networks after each budget."""
    rows = [Network(zoo.get_arch(row.arch), row.alpha, row) for row in zoo.PAPER_TABLE2]
    for index, alpha in ((3, 1.0), (7, 0.5), (11, 0.25)):
        rows.insert(index, Network(zoo.get_arch("fd_shufflenet"), alpha))
    return [*rows, Network(zoo.get_arch("fd_mobilenet"), 0.75), Network(zoo.get_arch("mobilenet"), 1.0)]


STAGES = (2, 4, 8, 16, 32, CLASSIFIER)


def _mega(macs: float) -> str:
    return f"{macs / 1e6:.1f}"


def table1(rows: Sequence[Network], size: tuple[int, int]) -> list[list[str]]:
    """Table 1: MFLOPs by output resolution, with the paper's row below FD-MobileNet 1x."""
    head = [f"{math.ceil(size[0] / stage)}x{math.ceil(size[1] / stage)}" for stage in STAGES[:-1]]
    table = [["MFLOPs at", *head, CLASSIFIER, "total"]]
    for network in rows:
        cost = profile_ops(network.ops(size))
        table.append([network.title, *(_mega(cost.stages.get(s, 0)) for s in STAGES), _mega(cost.macs)])
        if size == (SIZE, SIZE) and (network.arch.name, network.alpha) == ("fd_mobilenet", 1.0):
            figures = [zoo.PAPER_TABLE1[stage] for stage in STAGES]
            total = network.paper.mflops if network.paper else ""
            table.append(["  the paper's", *map(str, figures), str(total)])
    return table


def table2(rows: Sequence[Network], size: tuple[int, int]) -> list[list[str]]:
    """Table 2: our MFLOPs and the paper's, parameters, and the layers that reach strides 4 and 32."""
    table = [["network", "MFLOPs", "paper", "parameters", "stride 4", "stride 32", "before last", "paper"]]
    for network in rows:
        ops = network.ops(size)
        cost = profile_ops(ops)
        paper = network.paper if size == (SIZE, SIZE) else None
        said = zoo.PAPER_DOWNSAMPLING.get((network.arch.name, network.alpha), {}) if paper else {}
        table.append(
            [
                network.title,
                _mega(cost.macs),
                str(paper.mflops) if paper else "",
                f"{cost.parameters:,}",
                f"layer {layer_reaching(ops, 4)}",
                f"layer {layer_reaching(ops, 32)}",
                _mega(cost.macs_before_last),
                "{stride4_layer}, {stride32_layer}, {mflops_before_last}".format(**said) if said else "",
            ]
        )
    return table


def layer_table(cost: Profile) -> list[list[str]]:
    """One row per layer with MACs or parameters, then the total."""
    table = [["layer", "kind", "output", "MFLOPs", "parameters"]]
    for row in cost.rows:
        if row.macs or row.parameters:
            size = "x".join(map(str, row.size))
            table.append([row.name, row.kind, size, f"{row.macs / 1e6:.3f}", f"{row.parameters:,}"])
    return [*table, ["total", "", "", f"{cost.macs / 1e6:.3f}", f"{cost.parameters:,}"]]


def print_table(table: Sequence[Sequence[str]], as_csv: bool) -> None:
    """Prints rows as aligned columns (the first one left-aligned), or as CSV."""
    if as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows(table)
        return
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip())


def plot(path: str, rows: Sequence[Network], size: tuple[int, int]) -> None:
    """Draws figure 1 of the paper: the resolution of each layer, and the cost of each resolution."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    steps, bars = figure.subplots(1, 2)
    _plot_downsampling(steps, rows, size)
    _plot_cost(bars, rows, size)
    for axes in (steps, bars):
        axes.spines[["top", "right"]].set_visible(False)
    write_figure(path, figure)


def _plot_downsampling(axes, rows: Sequence[Network], size: tuple[int, int]) -> None:
    """Plots the height of the feature map over the layers; parallel paths count once."""
    styles = ("-", "-", "-", "--")  # the last line partly covers the first one
    for network, style in zip(rows, itertools.cycle(styles)):
        layers = [op for op in network.ops(size) if op.is_layer and op.kind != "avg_pool"]
        depth = range(1, len(layers) + 1)
        axes.step(depth, [op.size[0] for op in layers], style, where="mid", label=network.title, linewidth=2)
    sides = [math.ceil(size[0] / stage) for stage in STAGES[:-1]]
    axes.set_yscale("log", base=2)
    axes.set_yticks(sides, [str(side) for side in sides])
    axes.set(xlabel="layer", ylabel="height of the feature map", title="Downsampling")
    axes.legend(frameon=False, loc="upper right")


def _plot_cost(axes, rows: Sequence[Network], size: tuple[int, int]) -> None:
    """Plots stacked bars of the MFLOPs at each resolution; the last one includes the classifier."""
    titles = [network.title for network in rows]
    stages = [profile_ops(network.ops(size)).stages for network in rows]
    left = [0.0] * len(rows)
    for index, reduction in enumerate(STAGES[:-1]):
        shares = (reduction, CLASSIFIER) if reduction == STAGES[-2] else (reduction,)
        mflops = [sum(cost.get(share, 0) for share in shares) / 1e6 for cost in stages]
        label = f"{math.ceil(size[0] / reduction)}x{math.ceil(size[1] / reduction)}"
        axes.barh(titles, mflops, left=left, label=label, color=f"{0.8 - 0.17 * index:.2f}", edgecolor="white")
        left = [start + width for start, width in zip(left, mflops, strict=True)]
    axes.invert_yaxis()
    axes.set(xlabel="MFLOPs", title="Cost by resolution")
    axes.legend(frameon=False, ncols=5, loc="upper center", bbox_to_anchor=(0.4, -0.16), columnspacing=1)


def parser() -> argparse.ArgumentParser:
    """The program's flags."""
    flags = argparse.ArgumentParser(prog=program_name(__spec__), description=summary(__doc__), allow_abbrev=False)
    flags.add_argument("keras_file", nargs="?", help="a saved .keras model to profile instead of the networks")
    flags.add_argument("--model", choices=zoo.ARCHS, help="print one network, layer by layer")
    flags.add_argument("--alpha", type=float, default=1.0, help="width multiplier of --model (default 1.0)")
    flags.add_argument("--groups", type=int, help="groups of a ShuffleNet (default 3)")
    flags.add_argument("--stem_multiplier", type=float, help="stem width of a ShuffleNet (default alpha, at least 0.5)")
    flags.add_argument("--size", type=int, default=SIZE, help=f"side of the image (default {SIZE})")
    flags.add_argument("--csv", action="store_true", help="print CSV")
    flags.add_argument("--plot", metavar="FILE", help="draw figure 1 of the paper to a .png, .svg or .pdf file")
    return flags


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the program."""
    args = parse_args(parser(), arguments)
    if args.plot:
        check_figure(args.plot)
    if args.keras_file:
        _print_file(args.keras_file, args.csv)
        return
    size, rows = (args.size, args.size), networks()
    if args.model:
        network = Network(zoo.get_arch(args.model, args.groups, args.stem_multiplier), args.alpha)
        rows = [network]
        print_table(layer_table(profile_ops(network.ops(size))), args.csv)
    else:
        print_table(table1(rows, size), args.csv)
        print()
        print_table(table2(rows, size), args.csv)
    if args.plot:
        plot(args.plot, rows[:4], size)
        print(f"wrote {args.plot}", file=sys.stderr)


def _print_file(path: str, as_csv: bool) -> None:
    from fd_keras.saved import load_model

    cost = profile(load_model(path))
    print_table(layer_table(cost), as_csv)
    if cost.uncounted:
        print(f"MACs not counted: {', '.join(cost.uncounted)}", file=sys.stderr)


if __name__ == "__main__":
    run_module(main)

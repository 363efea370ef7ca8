"""The networks' tables, and their figures in the FD-MobileNet paper.

A new entry in `ARCHS` is built, profiled, converted and tested without further code.
"""

import dataclasses

from fd_keras.spec import Arch, Stage

PAPER = "arXiv 1802.03750"

# FD-MobileNet (arXiv 1802.03750, table 1): MobileNet's channels, with each downsampling one stage earlier, and one
# unit of 1024 channels instead of two.
FD_MOBILENET = Arch(
    "fd_mobilenet",
    "FD-MobileNet",
    (
        Stage("conv", 32, stride=2),
        Stage("separable", 64, stride=2),
        Stage("separable", 128, stride=2, repeats=2),
        Stage("separable", 256, stride=2, repeats=2),
        Stage("separable", 512, stride=2, repeats=5),
        Stage("separable", 1024),
    ),
)

# MobileNet (arXiv 1704.04861, table 1), the paper's baseline.
MOBILENET = Arch(
    "mobilenet",
    "MobileNet",
    (
        Stage("conv", 32, stride=2),
        Stage("separable", 64),
        Stage("separable", 128, stride=2, repeats=2),
        Stage("separable", 256, stride=2, repeats=2),
        Stage("separable", 512, stride=2, repeats=6),
        Stage("separable", 1024, stride=2, repeats=2),
    ),
)

# Channels of ShuffleNet's first stage by number of groups (arXiv 1707.01083, table 1); they double in each of the
# next two stages.
SHUFFLENET_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}


def _shuffle_arch(name: str, title: str, groups: int, filters: int, repeats: tuple[int, int, int]) -> Arch:
    rows = (Stage("shuffle", filters * 2**octave, stride=2, repeats=count) for octave, count in enumerate(repeats))
    stem = (Stage("conv", 24, stride=2), Stage("max_pool", 24, stride=2))
    # The stem of the 0.25x network keeps the 12 channels of the 0.5x one, which gives the 13 MFLOPs of the
    # paper's table 2 (6 channels, as in imgclsmob, would give 11).
    return Arch(name, title, (*stem, *rows), groups=groups, min_stem_multiplier=0.5)


SHUFFLENET = {
    groups: _shuffle_arch("shufflenet", "ShuffleNet", groups, filters, (4, 8, 4))
    for groups, filters in SHUFFLENET_CHANNELS.items()
}

# FD-ShuffleNet: the paper's future work. See `fd_keras.FDShuffleNet` for how the table was chosen.
FD_SHUFFLENET = {3: _shuffle_arch("fd_shufflenet", "FD-ShuffleNet", 3, 336, (1, 1, 6))}

ARCHS: dict[str, Arch | dict[int, Arch]] = {
    "fd_mobilenet": FD_MOBILENET,
    "mobilenet": MOBILENET,
    "shufflenet": SHUFFLENET,
    "fd_shufflenet": FD_SHUFFLENET,
}
DEFAULT_GROUPS = 3  # the paper compares with g = 3


def get_arch(name: str, groups: int | None = None, stem_multiplier: float | None = None) -> Arch:
    """Looks up a network's table.

    Args:
        name: Key of `ARCHS`.
        groups: Groups of a ShuffleNet; None means 3.
        stem_multiplier: Stem width of a ShuffleNet; None means alpha, but at least 0.5.

    Raises:
        ValueError: If the name or the number of groups has no table, or the network does not have the argument.
    """
    if name not in ARCHS:
        raise ValueError(f"Unknown network {name!r}; use one of {', '.join(ARCHS)}.")
    arch = ARCHS[name]
    if isinstance(arch, Arch):
        if groups is not None or stem_multiplier is not None:
            raise ValueError(f"{name} has no groups or stem_multiplier; only the ShuffleNets do.")
        return arch
    groups = DEFAULT_GROUPS if groups is None else groups
    if groups not in arch:
        raise ValueError(f"{name} does not support groups={groups!r}; supported are {', '.join(map(str, arch))}.")
    return dataclasses.replace(arch[groups], stem_multiplier=stem_multiplier)


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """The paper's figures for a network at 224x224.

    Attributes:
        arch: Key of `ARCHS`.
        alpha: Width multiplier.
        mflops: Millions of multiply-accumulates (table 2).
        top1: ImageNet validation top-1 in percent (table 2); None for a network that is not in the paper.
        source: Source that the paper takes that accuracy from.
    """

    arch: str
    alpha: float
    mflops: int
    top1: float | None = None
    source: str = PAPER


_MOBILENET_PAPER, _SHUFFLENET_PAPER = "arXiv 1704.04861", "arXiv 1707.01083"

# Table 2 of the paper, by budget.
PAPER_TABLE2 = (
    PaperRow("fd_mobilenet", 1.0, 144, 65.3),
    PaperRow("mobilenet", 0.5, 149, 63.7, _MOBILENET_PAPER),
    PaperRow("shufflenet", 1.0, 137, 65.9, _SHUFFLENET_PAPER),
    PaperRow("fd_mobilenet", 0.5, 40, 56.2),
    PaperRow("mobilenet", 0.25, 41, 50.6, _MOBILENET_PAPER),
    PaperRow("shufflenet", 0.5, 38, 57.3, _SHUFFLENET_PAPER),
    PaperRow("fd_mobilenet", 0.25, 12, 45.1),
    PaperRow("mobilenet", 0.125, 12, 39.6),
    PaperRow("shufflenet", 0.25, 13, 46.7, _SHUFFLENET_PAPER),
)


@dataclasses.dataclass(frozen=True)
class PaperDetectionRow:
    """The paper's figures for a detector on PASCAL VOC 2007.

    Attributes:
        arch: Key of `ARCHS`: the backbone of Faster R-CNN.
        alpha: Width multiplier.
        mean_ap: Mean AP on the test set in percent (table 3).
        class_aps: AP of each class in percent, in VOC's alphabetical order: aeroplane to tvmonitor.
    """

    arch: str
    alpha: float
    mean_ap: float
    class_aps: tuple[float, ...]

    @property
    def mflops(self) -> int:
        """Millions of multiply-accumulates of the network at 224x224 (table 2)."""
        return next(row.mflops for row in PAPER_TABLE2 if (row.arch, row.alpha) == (self.arch, self.alpha))

    @property
    def title(self) -> str:
        """For example "FD-MobileNet 0.5x"."""
        return f"{get_arch(self.arch).title} {self.alpha:g}x"


# Table 3 of the paper, by budget.
PAPER_TABLE3 = (
    PaperDetectionRow(
        "fd_mobilenet", 1.0, 55.4,
        (58.1, 67.1, 49.4, 32.7, 28.8, 62.2, 71.1, 67.2, 32.6, 59.4,
         58.0, 63.0, 72.3, 65.7, 65.8, 26.9, 53.5, 51.9, 65.0, 56.7),
    ),
    PaperDetectionRow(
        "mobilenet", 0.5, 53.8,
        (59.0, 66.8, 52.3, 33.5, 29.8, 56.9, 71.4, 61.5, 29.8, 59.2,
         51.3, 59.3, 69.9, 64.6, 63.5, 29.5, 48.9, 51.8, 65.0, 52.1),
    ),
    PaperDetectionRow(
        "fd_mobilenet", 0.5, 45.1,
        (46.4, 53.2, 38.2, 29.3, 16.8, 47.1, 63.0, 56.2, 22.3, 48.8,
         49.4, 47.3, 66.9, 60.6, 56.8, 20.0, 44.5, 40.9, 57.0, 38.0),
    ),
    PaperDetectionRow(
        "mobilenet", 0.25, 42.3,
        (47.5, 53.8, 35.0, 24.0, 18.5, 43.9, 60.2, 51.3, 17.5, 47.6,
         47.5, 47.4, 60.0, 58.7, 55.5, 19.2, 38.3, 36.3, 48.9, 34.2),
    ),
    PaperDetectionRow(
        "fd_mobilenet", 0.25, 32.7,
        (40.6, 43.6, 21.4, 16.2, 8.2, 33.7, 50.7, 41.2, 15.6, 37.2,
         33.4, 36.2, 54.7, 50.4, 41.4, 8.1, 29.6, 25.3, 47.7, 18.2),
    ),
    PaperDetectionRow(
        "mobilenet", 0.125, 29.1,
        (33.4, 38.6, 20.7, 16.0, 2.9, 31.4, 48.5, 42.7, 13.2, 26.8,
         28.2, 34.5, 46.9, 45.4, 42.3, 13.4, 29.3, 21.7, 29.6, 16.1),
    ),
)  # fmt: skip

# Table 1 of the paper: MFLOPs of FD-MobileNet 1x by output resolution, and of the classifier.
PAPER_TABLE1 = {2: 10.8, 4: 7.3, 8: 20.6, 16: 19.9, 32: 84.7, "classifier": 1.0}

# Section 2 of the paper: the layers at which strides 4 and 32 are reached, and the MFLOPs spent before the last
# resolution.
PAPER_DOWNSAMPLING = {
    ("fd_mobilenet", 1.0): {"stride4_layer": 2, "stride32_layer": 12, "mflops_before_last": 59},
    ("mobilenet", 0.5): {"stride4_layer": 4, "stride32_layer": 24, "mflops_before_last": 129},
}

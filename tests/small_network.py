"""A network of seven convolutions for tests of training, since tracing the graph takes most of their time."""

from fd_keras.spec import Arch, Stage

NAME = "small"
ARCH = Arch(
    NAME,
    "Small",
    (
        Stage("conv", 32, stride=2),
        Stage("separable", 64, stride=2, repeats=2),
        Stage("separable", 128, stride=2),
    ),
)

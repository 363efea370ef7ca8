"""fd_keras.training.train, which also accepts --model=small."""

import importlib

from fd_keras import zoo
from tests import small_network

zoo.ARCHS[small_network.NAME] = small_network.ARCH  # before the program lists the networks
PROGRAM = importlib.import_module("fd_keras.training.train").PROGRAM

if __name__ == "__main__":
    PROGRAM.run()

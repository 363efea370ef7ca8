"""fd_keras.training.train, which also accepts --model=small."""

import importlib

from tests import small_network

small_network.register()  # before the program lists the networks
PROGRAM = importlib.import_module("fd_keras.training.train").PROGRAM

if __name__ == "__main__":
    PROGRAM.run()

"""FD-MobileNet (arXiv 1802.03750) and its peers as Keras applications."""

import os
import sys

if sys.argv[:1] == ["-m"]:  # `python -m fd_keras.something` starts: keep TensorFlow's start-up notes off its output
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from fd_keras.applications import FDMobileNet, FDShuffleNet, MobileNet, ShuffleNet, feature_layers
from fd_keras.cost import profile
from fd_keras.imagenet import decode_predictions, preprocess_input
from fd_keras.layers import ChannelShuffle
from fd_keras.version import __version__

__all__ = [
    "ChannelShuffle",
    "FDMobileNet",
    "FDShuffleNet",
    "MobileNet",
    "ShuffleNet",
    "__version__",
    "decode_predictions",
    "feature_layers",
    "preprocess_input",
    "profile",
]

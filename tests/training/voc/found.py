"""Short constructor of detections, and the classes of the shared evaluation."""

import numpy as np

from fd_keras.training.voc.detections import Detections

EVALUATED = ("cat", "dog", "hard <hat>")
CONFIG = {"backbone": "fd_mobilenet", "alpha": 0.5}


def detections_of(boxes, scores, labels) -> Detections:
    """Makes detections from lists."""
    return Detections(np.array(boxes, "float32"), np.array(scores, "float32"), np.array(labels, "int64"))

"""Runs programs of training/voc/ on request, each in a fork of this process, with a detector that knows the answer.

A request is a line of JSON on standard input: the program's name, its arguments, the folder to run in. The answer is a
line on standard output: exit status, and what the program wrote to standard output and to standard error.
"""

import importlib
import json
import os
import sys
import tempfile
import types

import matplotlib.figure  # noqa: F401
import numpy as np
from absl import app

import training.voc
from training.voc import report, sweep  # noqa: F401  (these and matplotlib take time to import)
from training.voc.detections import Detections

RUN = "RUN"  # the one run there is


class Detector:
    """Finds a cat in the upper left quarter of every photo, and with less confidence a dog in the corner."""

    classes, name, config = ("cat", "dog"), "fake_0.5", {"backbone": "fd_mobilenet", "alpha": 0.5}

    def __call__(self, image):
        height, width = image.shape[:2]
        boxes = np.array([[0, 0, width // 2 - 1, height // 2 - 1], [0, 0, 5, 5]], "float32")
        return Detections(boxes, np.array([0.75, 0.25], "float32"), np.array([0, 1]))


def load(run_dir, kind="last"):
    if run_dir != RUN:
        raise FileNotFoundError(f"--run_dir={run_dir}: no run of training.voc.train")
    return Detector()


def become(program: str, arguments: list[str], folder: str, out, err) -> None:
    """Turns this process into the program."""
    os.chdir(folder)
    for descriptor, file in enumerate((open(os.devnull, "rb"), out, err)):
        os.dup2(file.fileno(), descriptor)
    fake = types.SimpleNamespace(load=load, model_path=lambda *parts: __file__)
    training.voc.detector = sys.modules["training.voc.detector"] = fake
    app.run(importlib.import_module(f"training.voc.{program}").main, argv=[program, *arguments])


def main() -> None:
    for line in sys.stdin:
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        child = os.fork()
        if not child:
            become(*json.loads(line), out, err)
        code, texts = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        print(json.dumps([code, *texts]), flush=True)


if __name__ == "__main__":
    main()

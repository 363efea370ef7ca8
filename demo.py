"""Demonstrates the pipeline in a few minutes: from a folder of images to files for a device, and a report.

Writes scikit-learn's handwritten digits (1,797 real scans of 8x8 pixels, enlarged) to one folder per class, and runs
`fd-keras finetune` on them, with random initial weights, so that nothing is downloaded.
"""

import os
import subprocess
import sys
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

OUTPUT = "demo_output"
SIZE = 64  # the digits are enlarged eightfold
# A mirrored digit is not a digit. --refit=no skips the second training, on all photos, to keep the demo short.
FLAGS = ("--init_weights=none", "--flip=0", f"--image_size={SIZE}", "--crop_scale=0.7", "--epochs=40", "--refit=no")


def write_digits(folder: str) -> None:
    """Writes a PNG file for each digit to the folder of its class; keeps existing files."""
    data: Any = load_digits()
    for index, (digit, label) in enumerate(zip(data.images, data.target, strict=True)):
        path = os.path.join(folder, str(label), f"{index:04}.png")
        if not os.path.exists(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            pixels = (digit * 255 / 16).round().astype(np.uint8)
            Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(path)


def main() -> int:
    """Writes the digits, and does with them what a user does with photos; returns the exit status."""
    photos, output = os.path.join(OUTPUT, "digits"), os.path.join(OUTPUT, "mine")
    write_digits(photos)
    command = ["finetune", photos, f"--output_dir={output}", *FLAGS]
    print("$ fd-keras", *command, flush=True)
    return subprocess.run([sys.executable, "-m", "fd_keras.cli", *command]).returncode


if __name__ == "__main__":
    sys.exit(main())

"""Measures top-1, RAM and flash for visual wake words (does a photo show a person?) on PASCAL VOC 2007.

    python -m benchmarks.wake_word --output_dir=OUT
    python -m benchmarks.wake_word --output_dir=OUT --voc=VOCdevkit/VOC2007 --reference=vww_96_int8.tflite --seeds=3

Networks are trained on VOC's train list and tested on its val list. As in the Visual Wake Words data set (arXiv
1906.05721), a photo has the class `person` if a person's box covers at least 0.5% of it. Photos whose persons are all
smaller, or marked difficult, are skipped and counted. Each network is trained by `fd-keras finetune` with default flags
and converted to int4, and its RAM is planned as in TensorFlow Lite Micro. Results that are already in OUT are not
computed again.

MLPerf Tiny's reference is a MobileNet 0.25x at 96 pixels. Its quality target is 80% top-1 on photos of COCO
(benchmark/README.md of github.com/mlcommons/tiny); its int8 file has 333,288 bytes (vww_96_int8.tflite in
benchmark/training/visual_wake_words/trained_models). --reference tests that file on the same photos, resized to 96x96
without keeping the aspect ratio, as in its own scripts (convert_vww.py). FD_KERAS_DATA names the folder with VOCdevkit/
and weights/.
"""

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from fd_keras import startup

startup.hide_tensorflow_notes()

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.finetune import WEIGHTS, top1_of  # noqa: E402
from fd_keras import litert  # noqa: E402
from fd_keras.io import write_json  # noqa: E402
from fd_keras.tflite.format.flatbuffer import read  # noqa: E402
from fd_keras.tflite.memory.arena import plan, tflm_bytes  # noqa: E402
from fd_keras.tflite.memory.scratch import CMSIS_NN_DSP  # noqa: E402
from fd_keras.training.finetune.photo_folder import Labeled  # noqa: E402
from fd_keras.training.voc import dataset  # noqa: E402
from fd_keras.training.voc.annotation import Annotation  # noqa: E402
from fd_keras.training.voc.devkit import CLASSES  # noqa: E402

NAMES = ("no_person", "person")  # in label order, also that of the reference
MIN_AREA = 0.005  # of the photo
SPLITS = ("train", "val")
TARGET = 80.0  # percent of top-1, MLPerf Tiny's quality target
_PERSON = CLASSES.index("person")


def label_of(photo: Annotation) -> int | None:
    """Label of a photo, an index of `NAMES`; None if all of its persons are small or difficult."""
    persons = photo.labels == _PERSON
    if not persons.any():
        return 0
    sides = photo.boxes[:, 2:] - photo.boxes[:, :2] + 1  # VOC includes both ends
    large = sides.prod(axis=1) >= MIN_AREA * photo.width * photo.height
    return 1 if (persons & large & ~photo.difficult).any() else None


def lay_out(voc: pathlib.Path, folder: pathlib.Path) -> dict[str, collections.Counter]:
    """Links VOC's photos into SPLIT/CLASS folders; returns the numbers of photos per class and of skipped ones."""
    counts = {}
    for split in SPLITS:
        labels = [(photo, label_of(photo)) for photo in dataset.open_split(str(voc), split)]
        for photo, label in labels:
            if label is not None:
                _link(pathlib.Path(photo.path), folder / split / NAMES[label])
        counts[split] = collections.Counter("skipped" if label is None else NAMES[label] for _, label in labels)
    return counts


def _link(photo: pathlib.Path, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / photo.name
    if not link.is_symlink():
        link.symlink_to(photo.resolve())


def photos_of(folder: pathlib.Path) -> list[Labeled]:
    """The photos in class folders, with their labels."""
    return [(str(path), label) for label, name in enumerate(NAMES) for path in sorted((folder / name).iterdir())]


@dataclasses.dataclass(frozen=True)
class WakeWordNetwork:
    """A network to train.

    Attributes:
        alpha: Width multiplier.
        image_size: Side of the images in pixels.
        seed: Seed of `fd-keras finetune`.
    """

    alpha: float
    image_size: int
    seed: int

    @property
    def name(self) -> str:
        """Name of the folder and the .json file of the network."""
        return f"wake_word_{self.alpha}_{self.image_size}_{self.seed}"


def measure(network: WakeWordNetwork, data: pathlib.Path, photos: pathlib.Path, folder: pathlib.Path) -> dict:
    """Trains, converts and tests a network.

    Args:
        network: The network.
        data: Folder with weights/.
        photos: Folder with train/ and val/.
        folder: Folder for the files of the network.

    Returns:
        Top-1 in percent, and bytes of RAM and flash, by type of file, to store as JSON.
    """
    weights = str(data / "weights" / WEIGHTS[network.alpha])
    flags = [f"--alpha={network.alpha}", f"--image_size={network.image_size}", f"--seed={network.seed}"]
    _run("finetune", str(photos / "train"), f"--output_dir={folder}", f"--init_weights={weights}", *flags)
    (model,) = (str(path) for path in folder.glob("fd_mobilenet*.keras"))
    int8, int4 = (model.replace(".keras", f"_{recipe}.tflite") for recipe in ("int8", "int4"))
    calibration = f"--calibration_dir={photos / 'train'}"
    _run("convert", f"--keras_model={model}", "--recipes=int4", calibration, f"--output_dir={folder}", "--noxnnpack")
    test = photos_of(photos / "val")
    top1 = dict(zip(("float32", "int8", "int4"), top1_of(model, [int8, int4], test), strict=True))
    run = json.loads((folder / "run.json").read_text())
    files = {"int8": size_of(int8) | {"top1": top1["int8"]}, "int4": size_of(int4) | {"top1": top1["int4"]}}
    return {"float32": {"top1": top1["float32"]}, **files, "tested": len(test), "git_commit": run["git_commit"]}


def _run(*command: str) -> None:
    subprocess.run([sys.executable, "-m", "fd_keras.cli", *command], check=True)


def size_of(path: str) -> dict:
    """Bytes of flash and RAM (with CMSIS-NN's scratch memory) and MACs of a file."""
    file = read(path)
    arena = plan(file.network, CMSIS_NN_DSP).arena
    return {"flash": file.bytes, "ram": arena + tflm_bytes(file.network), "macs": file.network.all_macs}


def reference(path: str, test: Sequence[Labeled]) -> dict:
    """RAM, flash, MACs and top-1 of MLPerf Tiny's int8 file, whose input is pixels minus 128."""
    interpreter = litert.load(path)
    interpreter.allocate_tensors()
    (source,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    height, width = source["shape"][1:3].tolist()
    hits = 0
    for photo, label in test:
        with Image.open(photo) as image:
            pixels = np.asarray(image.convert("RGB").resize((width, height)), "int16")
        interpreter.set_tensor(source["index"], (pixels - 128).astype("int8")[None])
        interpreter.invoke()
        hits += int(interpreter.get_tensor(output["index"])[0].argmax() == label)
    return size_of(path) | {"top1": 100 * hits / len(test), "tested": len(test)}


def table(rows: dict[str, dict]) -> str:
    """The results as Markdown."""
    lines = ["| network | top-1 | RAM KiB | flash KiB | million MACs |", "|---|---:|---:|---:|---:|"]
    for name, row in rows.items():
        sizes = [f"{row[key] / unit:.1f}" if key in row else "" for key, unit in _UNITS.items()]
        lines.append(f"| {name} | {row['top1']:.1f} +- {_error(row):.1f} | {' | '.join(sizes)} |")
    return "\n".join([*lines, "", f"MLPerf Tiny's target is {TARGET:g}% top-1, on photos of COCO."])


_UNITS = {"ram": 1024, "flash": 1024, "macs": 1e6}


def _error(row: dict) -> float:
    """The standard error of a top-1, in percentage points."""
    return (row["top1"] * (100 - row["top1"]) / row["tested"]) ** 0.5


def rows_of(network: WakeWordNetwork, record: dict) -> dict[str, dict]:
    """The rows of a network: float32, int8 and int4."""
    title = f"FD-MobileNet {network.alpha:g}x at {network.image_size}, seed {network.seed}, "
    return {title + kind: record[kind] | {"tested": record["tested"]} for kind in ("float32", "int8", "int4")}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = flags.add_argument
    add("--output_dir", required=True, help="folder for photos and results")
    add("--data", default=os.environ.get("FD_KERAS_DATA"), help="default: FD_KERAS_DATA")
    add("--voc", help="folder VOC2007 of a devkit (default: VOCdevkit/VOC2007 in FD_KERAS_DATA)")
    add("--reference", help="vww_96_int8.tflite of MLPerf Tiny")
    add("--alphas", default="0.25", help="width multipliers, such as 0.25,0.5")
    add("--sizes", default="96", help="sides of the images in pixels, such as 96,128")
    add("--seeds", type=int, default=1, help="number of seeds")
    return flags


def main() -> None:
    """Computes missing results and prints the table."""
    args = parser().parse_args()
    data, out = pathlib.Path(args.data), pathlib.Path(args.output_dir)
    photos = out / "photos"
    for split, counts in lay_out(pathlib.Path(args.voc or data / "VOCdevkit" / "VOC2007"), photos).items():
        print(f"{split}: {', '.join(f'{count} {name}' for name, count in sorted(counts.items()))}", flush=True)
    test = photos_of(photos / "val")
    share = 100 * max(np.bincount([label for _, label in test])) / len(test)
    rows = {"always the more frequent class": {"top1": share, "tested": len(test)}}
    if args.reference:
        rows["MLPerf Tiny's reference, int8"] = reference(args.reference, test)
    alphas, sizes = args.alphas.split(","), args.sizes.split(",")
    networks = [WakeWordNetwork(float(a), int(s), seed) for a in alphas for s in sizes for seed in range(args.seeds)]
    for network in networks:
        target = out / f"{network.name}.json"
        if not target.exists():
            write_json(target, measure(network, data, photos, out / network.name))
        rows |= rows_of(network, json.loads(target.read_text()))
    print(table(rows))


if __name__ == "__main__":
    main()

"""Builds PASCAL VOC 2007's train and val sets in the devkit's layout, from public copies of images and annotations.

    python -m benchmarks.voc_set --devkit=VOCdevkit/VOC2007 --output_dir=OUT/VOCdevkit/VOC2007 IMAGES IMAGES

Images are Roboflow's exports (000005_jpg.rf.HASH.jpg for 000005.jpg), some of them twice. Annotations and lists are the
devkit's own. Images without a copy are removed from the lists and printed. docs/results/voc.md names the sources.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from fd_keras.io import write_atomically
from fd_keras.progress import progress
from fd_keras.training.voc import annotation
from fd_keras.training.voc.devkit import ANNOTATIONS, CLASSES, IMAGES, LISTS, Devkit

SPLITS = ("train", "val")


def copies(folders: Sequence[str]) -> dict[str, list[Path]]:
    """The image files in some folders and their subfolders, by the devkit's name of the image, such as 000005."""
    found: dict[str, list[Path]] = {}
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.jpg")):
            found.setdefault(path.name.removesuffix(".jpg").split("_jpg.rf.")[0], []).append(path)
    return found


def lay_out(folders: Sequence[str], devkit: str, output: str) -> dict[str, list[str]]:
    """Writes the data set; returns the names of the images without a copy, by split.

    Raises:
        DataError: If an image does not have the size in its annotation, so that it is not a copy.
    """
    images, left_out, kept = copies(folders), {}, {}
    for name in (ANNOTATIONS, IMAGES, LISTS):
        os.makedirs(os.path.join(output, name), exist_ok=True)
    for split in SPLITS:
        names = Devkit(devkit).names(split)
        kept[split] = [name for name in names if name in images]
        left_out[split] = [name for name in names if name not in images]
    for name in progress(kept["train"] + kept["val"], unit="images"):
        shutil.copyfile(images[name][0], os.path.join(output, IMAGES, f"{name}.jpg"))
        xml = os.path.join(ANNOTATIONS, f"{name}.xml")
        shutil.copyfile(os.path.join(devkit, xml), os.path.join(output, xml))
        annotation.annotate(Devkit(output).describe(name), CLASSES, annotation.TO_TRAIN, annotation.Repairs())
    for split, names in (kept | {"trainval": sorted(kept["train"] + kept["val"])}).items():  # written last
        text = "".join(f"{name}\n" for name in names)
        write_atomically(os.path.join(output, LISTS, f"{split}.txt"), text.encode())
    return left_out


def main(arguments: Sequence[str] | None = None) -> None:
    """Builds the data set and prints which images are missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="folders with images")
    parser.add_argument("--devkit", required=True, help="folder with Annotations and ImageSets/Main")
    parser.add_argument("--output_dir", required=True, help="folder for the data set")
    args = parser.parse_args(arguments)
    try:
        left_out = lay_out(args.images, args.devkit, args.output_dir)
    except (annotation.DataError, OSError) as error:
        sys.exit(f"error: {error}")
    for split, names in left_out.items():
        count = len(Devkit(args.output_dir).names(split))
        missing = f"; no image for {len(names)}: {', '.join(names)}" if names else ""
        print(f"{split}: {count} of {count + len(names)} images{missing}")


if __name__ == "__main__":
    main()

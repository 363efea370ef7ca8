"""Sorts Tiny-ImageNet-200 into class folders, as `fd-keras train --data=folder:OUT` reads them.

    python -m benchmarks.tiny_imagenet tiny-imagenet-200 --output_dir=OUT

The folder has train/CLASS/images/*.JPEG, val/images/*.JPEG and val/val_annotations.txt with the class of each
validation photo. OUT contains hard links to these files, or copies if it is on another disk.
"""

import argparse
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from fd_keras.errors import run_and_exit
from fd_keras.progress import progress


def photos(source: Path) -> Iterator[tuple[Path, str]]:
    """Yields each photo and its path in the output: train/CLASS/NAME or val/CLASS/NAME.

    Raises:
        ValueError: If a validation photo has no class, or one without training photos.
        OSError: If the folder is not a copy of the data set.
    """
    if not (source / "train").is_dir():
        raise FileNotFoundError(f"{source}: has no folder train; pass the folder tiny-imagenet-200.")
    classes = sorted(path.name for path in (source / "train").iterdir() if path.is_dir())
    for name in classes:
        for path in sorted((source / "train" / name / "images").iterdir()):
            yield path, f"train/{name}/{path.name}"
    annotations = source / "val" / "val_annotations.txt"
    class_of = dict(line.split()[:2] for line in annotations.read_text().splitlines() if line.strip())
    for path in sorted((source / "val" / "images").iterdir()):
        name = class_of.get(path.name)
        if name not in classes:
            raise ValueError(
                f"{annotations}: {path.name} has class {name}, which is not a folder in {source / 'train'}"
            )
        yield path, f"val/{name}/{path.name}"


def sort(source: Path, output: Path) -> int:
    """Links or copies all photos into class folders; returns their number. Photos that are there are kept."""
    found = list(photos(source))
    for path, name in progress(found, unit="photos"):
        target = output / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            try:
                os.link(path, target)
            except OSError:  # another disk, or one without hard links
                shutil.copyfile(path, target)
    return len(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line and sorts the photos."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("source", type=Path, help="folder tiny-imagenet-200")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for train/ and val/")
    args = parser.parse_args(arguments)
    print(f"{sort(args.source, args.output_dir)} photos in {args.output_dir}")


if __name__ == "__main__":
    run_and_exit(main, "python -m benchmarks.tiny_imagenet")

"""Upright copies, of a size to train on, of the photos that need one."""

import os
from collections.abc import Sequence

from PIL import Image, ImageOps

from fd_keras import imagenet, photos
from fd_keras.progress import progress
from fd_keras.training.finetune.inspection import InspectedPhoto

_LARGE = 3  # short side, in those of evaluation, from which on decoding a photo takes longer than a network on it
_KEPT = 2  # short side of a copy, likewise: enough for the crops, which are of a part of the photo
_QUALITY = 95


def paths_of(found: Sequence[InspectedPhoto], classes: Sequence[str], size: int, folder: str) -> list[str]:
    """Where to read each photo: its own file, or its copy if it is large or asks to be shown rotated.

    A phone stores an upright photo as its sensor saw it, lying on its side, with a note about that. Nothing that
    decodes photos for a network reads the note.

    Args:
        found: Photos that can be decoded.
        classes: Class names, which the folders of the copies take.
        size: Side of the network's image.
        folder: Folder for the copies, made if there are any; those that are there already are kept.

    Raises:
        OSError: If a copy cannot be written.
    """
    target = imagenet.resize_target((size, size))[0]
    needing = [photo for photo in found if photo.rotated or min(photo.width, photo.height) > _LARGE * target]
    copies = {}
    for photo in progress(needing, len(needing), unit="copies"):
        copies[photo.path] = _copy(photo, _KEPT * target, os.path.join(folder, classes[photo.label]))
    return [copies.get(photo.path, photo.path) for photo in found]


def _copy(photo: InspectedPhoto, short: int, folder: str) -> str:
    stem = os.path.splitext(os.path.basename(photo.path))[0]
    path = os.path.join(folder, f"{stem}-{photo.sha256[:8]}.png")
    path = path if photo.path.lower().endswith(".png") else f"{path[:-4]}.jpg"
    if os.path.exists(path):
        return path
    os.makedirs(folder, exist_ok=True)
    part = f"{path}.part"
    with photos.opened(photo.path) as image:
        image.draft("RGB", (short, short))  # lets libjpeg decode fewer pixels, no fewer than those
        upright = photos.rgb(ImageOps.exif_transpose(image))
        scale = min(1.0, short / min(upright.size))
        sides = (max(1, round(upright.width * scale)), max(1, round(upright.height * scale)))
        upright.resize(sides, Image.Resampling.LANCZOS).save(
            part, "PNG" if path.endswith(".png") else "JPEG", quality=_QUALITY
        )
    os.replace(part, path)
    return path

"""Makes upright, smaller copies of photos that are rotated or very large."""

import io
import os
from collections.abc import Sequence

from PIL import Image, ImageOps

from fd_keras import imagenet, photos
from fd_keras.io import write_atomically
from fd_keras.progress import progress
from fd_keras.training.finetune.inspection import InspectedPhoto

_LARGE = 3  # short side above which photos are copied, relative to the short side in evaluation
_KEPT = 2  # short side of a copy, likewise; large enough for random crops
_QUALITY = 95  # JPEG quality
_LONGEST_STEM = 200  # bytes; file systems allow names of 255


def paths_of(found: Sequence[InspectedPhoto], classes: Sequence[str], size: int, folder: str) -> list[str]:
    """Returns the path to read each photo from: the file itself, or its copy if it is large or has an EXIF rotation.

    Phones store photos in the orientation of the sensor, and the rotation in the EXIF data, which TensorFlow's decoders
    ignore.

    Args:
        found: Photos that can be decoded.
        classes: Class names, used as folders of the copies.
        size: Side of the network's input in pixels.
        folder: Folder for the copies, created if needed; existing copies are kept.

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
    """Writes the copy of a photo, with a short side of at most `short` pixels; returns its path."""
    stem, suffix = os.path.splitext(os.path.basename(photo.path))
    stem = os.fsencode(stem)[:_LONGEST_STEM].decode(errors="ignore")
    form, ending = ("PNG", ".png") if suffix.lower() == ".png" else ("JPEG", ".jpg")
    path = os.path.join(folder, f"{stem}-{short}-{photo.sha256[:8]}{ending}")
    if os.path.exists(path):
        return path
    os.makedirs(folder, exist_ok=True)
    with photos.opened(photo.path) as image:
        image.draft("RGB", (short, short))  # lets libjpeg decode at reduced size, but not below this
        upright = photos.rgb(ImageOps.exif_transpose(image))
        scale = min(1.0, short / min(upright.size))
        sides = (max(1, round(upright.width * scale)), max(1, round(upright.height * scale)))
        data = io.BytesIO()
        upright.resize(sides, Image.Resampling.LANCZOS).save(data, form, quality=_QUALITY)
    write_atomically(path, data.getvalue())
    return path

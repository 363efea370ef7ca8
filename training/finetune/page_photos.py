"""The section of the report with photos: the most confident mistakes and the least certain predictions."""

import os
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image, ImageOps

from fd_keras import imagenet, photos
from fd_keras.io import printable
from fd_keras.training import html_page
from fd_keras.training.finetune import metrics
from fd_keras.training.finetune.results import Measured

SHOWN = 12  # number of photos of each kind
_SIDE = 128  # side of a thumbnail in pixels
_QUALITY = 70  # JPEG quality
_BORDER = (1 - imagenet.SIZE / imagenet.RESIZE) / 2  # share of the short side that the central crop removes at each end


def confident_mistakes(measured: Measured, names: Sequence[str]) -> str:
    """Returns a gallery of misclassified photos, the most confident first."""
    shown = metrics.confident_mistakes(measured, SHOWN)
    if not len(shown):
        return f"<p>No mistakes in {len(measured.labels)} photos.</p>"
    return _gallery(measured, shown, names, 1)


def least_certain(measured: Measured, names: Sequence[str]) -> str:
    """Returns a gallery of the least certain photos, without those in `confident_mistakes`."""
    above = metrics.confident_mistakes(measured, SHOWN)
    return _gallery(measured, metrics.least_certain(measured, SHOWN, above), names, 2)


def _gallery(measured: Measured, indices: np.ndarray, names: Sequence[str], answers: int) -> str:
    items = "".join(f"<li>{_photo(measured, index, names, answers)}</li>" for index in indices.tolist())
    return f'<ul class="photos">{items}</ul>'


def _photo(measured: Measured, index: int, names: Sequence[str], answers: int) -> str:
    """Returns a photo with its class and the best few predictions."""
    path, scores, true = measured.paths[index], measured.probabilities[index], names[int(measured.labels[index])]
    best = imagenet.top_classes(scores[None], answers)[0].tolist()
    named = ", ".join(f"{html_page.name(str(names[label]))} {100 * scores[label]:.0f}%" for label in best)
    caption = f'<span class="clip">{html_page.name(true)} → {named}</span>'
    file = f'<small class="clip">{html_page.name("/".join(path.rsplit(os.sep, 2)[-2:]))}</small>'
    return f"<figure>{_thumbnail(path, true)}<figcaption>{caption}{file}</figcaption></figure>"


def _thumbnail(path: str, name: str) -> str:
    """Returns a small image of the network's crop of a photo, or the reason why it cannot be shown."""
    try:
        with photos.opened(path) as image:
            image.draft("RGB", (2 * _SIDE, 2 * _SIDE))
            upright = photos.rgb(ImageOps.exif_transpose(image))
            small = ImageOps.fit(upright, (_SIDE, _SIDE), Image.Resampling.BICUBIC, bleed=_BORDER)
    except FileNotFoundError:
        return '<span class="missing">The file is missing.</span>'
    except (OSError, ValueError):
        return '<span class="missing">The file cannot be read.</span>'
    alt = escape(f"photo of {printable(name)}")
    return f'<img src="{html_page.jpeg_url(small, _QUALITY)}" width="{_SIDE}" height="{_SIDE}" alt="{alt}">'

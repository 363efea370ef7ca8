"""Draws boxes, class names and scores on images."""

import colorsys
import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fd_keras.io import write_atomically
from fd_keras.training.voc.detections import Detections


@dataclasses.dataclass(frozen=True)
class Mark:
    """A box to draw.

    Attributes:
        box: Box (x1, y1, x2, y2) in 0-based pixels, both ends included.
        text: Text above the box, or inside if there is no space above; may be empty.
        color: Color of the line and the background of the text, #rrggbb.
        dashed: Whether the line is dashed.
    """

    box: tuple[float, float, float, float]
    text: str
    color: str
    dashed: bool = False


def draw(pixels: np.ndarray, marks: Sequence[Mark]) -> Image.Image:
    """Draws marks on a uint8 RGB image (height, width, 3); later marks are on top."""
    image = Image.fromarray(pixels)
    canvas = ImageDraw.Draw(image)
    line = max(2, round(max(image.size) / 170))
    font = ImageFont.load_default(size=max(12, round(max(image.size) / 30)))
    for mark in marks:
        _rectangle(canvas, mark, line)
    for mark in marks:
        if mark.text:
            _label(canvas, mark, font, image.width)
    return image


def save(image: Image.Image, path: str) -> None:
    """Writes a PNG or, for any other suffix, a JPEG file atomically."""
    file = io.BytesIO()
    image.save(file, "PNG" if path.endswith(".png") else "JPEG", quality=92)
    write_atomically(path, file.getvalue())


def _rectangle(canvas: ImageDraw.ImageDraw, mark: Mark, line: int) -> None:
    x1, y1, x2, y2 = mark.box
    if not mark.dashed:
        canvas.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=mark.color, width=line)
        return
    dash = 4 * line
    for side in (y1, y2):
        for start in np.arange(x1, x2, 2 * dash):
            canvas.line((start, side, min(start + dash, x2), side), mark.color, line)
    for side in (x1, x2):
        for start in np.arange(y1, y2, 2 * dash):
            canvas.line((side, start, side, min(start + dash, y2)), mark.color, line)


def _label(canvas: ImageDraw.ImageDraw, mark: Mark, font, width: int) -> None:
    left, top, right, bottom = canvas.textbbox((0, 0), mark.text, font=font)
    wide, high = right + 6, bottom - top + 5
    x = max(0, min(mark.box[0], width - wide))
    y = mark.box[1] - high if mark.box[1] >= high else mark.box[1]
    canvas.rectangle((x, y, x + wide, y + high), fill=mark.color)
    canvas.text((x + 3, y + 2 - top), mark.text, fill=_ink(mark.color), font=font)


def _ink(color: str) -> str:
    """Returns black or white, whichever is readable on a color."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"


def class_color(label: int) -> str:
    """Returns the color of a class as #rrggbb; hues of consecutive classes differ by the golden ratio."""
    rgb = colorsys.hsv_to_rgb(label * 0.618 % 1, 0.75 + 0.25 * (label % 2), 0.95 - 0.2 * (label % 3 == 2))
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


def detection_marks(found: Detections, classes: Sequence[str]) -> list[Mark]:
    """Returns a mark for each detection in the color of its class, the best ones last."""
    order = np.argsort(found.scores, kind="stable")
    rows = zip(found.boxes[order], found.scores[order], found.labels[order], strict=True)
    return [
        Mark(tuple(box.tolist()), f"{classes[label]} {score:.2f}", class_color(label)) for box, score, label in rows
    ]

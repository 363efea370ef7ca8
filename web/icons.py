"""The icons of the installed page: three bars, like a classifier's scores."""

import io

INK, BARS = (20, 23, 27), ((110, 168, 254), (45, 212, 191), (154, 164, 178))
SIZES = (192, 512)
_LENGTHS = (0.56, 0.38, 0.22)  # of the bars, as fractions of the icon's side


def png(side: int) -> bytes:
    """The icon as a PNG of `side` x `side` pixels, with a margin for systems that crop icons to a circle."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (side, side), INK)
    draw = ImageDraw.Draw(image)
    for row, (length, color) in enumerate(zip(_LENGTHS, BARS, strict=True)):
        left, top = side * 0.22, side * (0.29 + 0.16 * row)
        box = (left, top, left + side * length, top + side * 0.1)
        draw.rounded_rectangle(box, radius=side * 0.05, fill=color)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()

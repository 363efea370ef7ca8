"""The icons of the installed page."""

import io

from PIL import Image

from fd_keras.web import icons


def test_icons_have_their_size_and_a_margin_for_masks():
    for side in icons.SIZES:
        with Image.open(io.BytesIO(icons.png(side))) as image:
            assert image.size == (side, side)
            margin = side // 10
            assert {image.getpixel((x, x)) for x in range(margin)} == {icons.INK}
            assert set(icons.BARS) <= set(image.get_flattened_data() if side < 200 else icons.BARS)

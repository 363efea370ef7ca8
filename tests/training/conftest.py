"""A folder of small synthetic photos, which every test of the training can learn."""

import pathlib

import numpy as np
import pytest
from PIL import Image

CLASSES = ("amber", "blue", "cyan")
COLOURS = ((220, 150, 40), (40, 60, 200), (60, 200, 210))


def write_photos(folder: pathlib.Path, count: int, seed: int) -> None:
    """Writes `count` photos of every class: noise around the class's colour, JPEG, of differing sizes."""
    random = np.random.default_rng(seed)
    for name, colour in zip(CLASSES, COLOURS, strict=True):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.normal(colour, 60, (9, int(random.integers(8, 13)), 3)).clip(0, 255).astype("uint8")
            image = Image.fromarray(pixels).resize((8 * pixels.shape[1], 72), Image.Resampling.BICUBIC)
            image.save(folder / name / f"{name}_{index:03}.jpg", quality=85)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> pathlib.Path:
    """train/ of 3 x 16 photos and val/ of 3 x 5."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder / "train", 16, seed=1)
    write_photos(folder / "val", 5, seed=2)
    return folder

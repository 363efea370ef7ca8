"""Data sets in the devkit's layout, made up."""

import pathlib

import numpy as np
import pytest
from PIL import Image


class Devkit:
    """A folder in the devkit's layout, written object by object.

    Args:
        folder: to be made.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (folder / name).mkdir(parents=True)

    def __str__(self) -> str:
        return str(self.folder)

    def xml(self, name: str) -> pathlib.Path:
        return self.folder / "Annotations" / f"{name}.xml"

    def image(self, name: str) -> pathlib.Path:
        return self.folder / "JPEGImages" / f"{name}.jpg"

    def add(self, name: str, *objects: str, width: int = 50, height: int = 40, size: str | None = None) -> None:
        """Writes an image of noise and its annotation."""
        pixels = np.random.default_rng(len(name)).integers(0, 256, (height, width, 3), "uint8")
        Image.fromarray(pixels).save(self.image(name))
        size = f"<size><width>{width}</width><height>{height}</height></size>" if size is None else size
        self.xml(name).write_text(f"<annotation>{size}{''.join(objects)}</annotation>")

    def split(self, name: str, *images: str) -> None:
        """Writes a list."""
        (self.folder / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{image}\n" for image in images))


def thing(name: str, *box: float, difficult: int | None = 0) -> str:
    """An <object>, with a <part> that is none."""
    sides = "".join(f"<{tag}>{side}</{tag}>" for tag, side in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    return f"<object><name>{name}</name><truncated>1</truncated>{flag}<bndbox>{sides}</bndbox>{part}</object>"


@pytest.fixture
def devkit(tmp_path) -> Devkit:
    return Devkit(tmp_path / "VOC2007")


@pytest.fixture(scope="session")
def voc_object():
    return thing

"""Fixtures for tests of detectors: synthetic data sets and programs."""

import json
import pathlib
import subprocess
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from fd_keras.training.voc import dataset
from fd_keras.training.voc import evaluation as evaluation_lib
from fd_keras.training.voc.detections import Detections
from tests.training.voc.found import CONFIG, EVALUATED, detections_of
from tests.training.voc.tiny_voc import CLASSES, write_devkit


class Devkit:
    """A folder in the devkit's layout.

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
    """Returns an <object> with a <part>, which must be ignored."""
    sides = "".join(f"<{tag}>{side}</{tag}>" for tag, side in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    return f"<object><name>{name}</name><truncated>1</truncated>{flag}<bndbox>{sides}</bndbox>{part}</object>"


@pytest.fixture
def devkit(tmp_path) -> Devkit:
    return Devkit(tmp_path / "VOC2007")


class TextData(NamedTuple):
    """A data set in COCO's or YOLO's format.

    Attributes:
        path: Path of its .json or .yaml.
        folder: Folder of its images.
    """

    path: pathlib.Path
    folder: pathlib.Path


def save_photo(path: pathlib.Path, width: int, height: int) -> None:
    """Writes a black photo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path)


@pytest.fixture
def coco(tmp_path) -> TextData:
    """Two images, one with a cat and a crowd of dogs, in COCO's format."""
    data = TextData(tmp_path / "coco" / "annotations" / "instances_val.json", tmp_path / "coco" / "val")
    save_photo(data.folder / "a.jpg", 50, 40)
    save_photo(data.folder / "sub" / "b.png", 30, 20)
    sizes = {"a.jpg": (50, 40), "sub/b.png": (30, 20)}
    content = {
        "images": [{"id": number, "file_name": file, "width": width, "height": height}
                   for number, (file, (width, height)) in enumerate(sizes.items(), 17)],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [{"image_id": 17, "category_id": 7, "bbox": [1, 2.5, 10, 20]},
                        {"image_id": 17, "category_id": 3, "bbox": [0, 0, 50, 40], "iscrowd": 1}],
    }  # fmt: skip
    data.path.parent.mkdir()
    data.path.write_text(json.dumps(content))
    return data


@pytest.fixture
def yolo(tmp_path) -> TextData:
    """Two images, one with a cat and the polygon of a hard hat, in YOLO's format."""
    data = TextData(tmp_path / "yolo" / "data.yaml", tmp_path / "yolo" / "images" / "val")
    save_photo(data.folder / "c.jpg", 50, 40)
    save_photo(data.folder / "d.jpg", 30, 20)
    labels = tmp_path / "yolo" / "labels" / "val" / "c.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text("0 0.5 0.5 0.2 0.5\n\n1 0.1 0.1 0.3 0.1 0.3 0.5\n")
    data.path.write_text("train: images/train\nval: images/val\nnames:\n  0: cat\n  1: hard hat\n")
    return data


@pytest.fixture(scope="session")
def voc_object():
    return thing


@pytest.fixture(scope="session")
def forked_programs(start_programs):
    return start_programs("tests.training.voc.fake_detector")


@pytest.fixture
def program(forked_programs, tmp_path):
    """Runs a program in an empty folder with the detector of fake_detector.py."""

    def run(name: str, *arguments) -> subprocess.CompletedProcess:
        return forked_programs.run(f"fd_keras.training.voc.{name}", arguments, tmp_path)

    return run


@pytest.fixture(scope="session")
def training_programs(start_programs):
    """Runs programs in forks of a process that has already imported the modules of both detectors."""
    return start_programs("fd_keras.training.voc.retinanet_run", "matplotlib.figure")


@pytest.fixture(scope="session")
def voc_photos(tmp_path_factory) -> pathlib.Path:
    """Six images in the devkit's layout, see `tiny_voc`."""
    return write_devkit(tmp_path_factory.mktemp("voc") / "VOC", 6)


@pytest.fixture(scope="session")
def annotations(voc_photos):
    """Annotations of the six images."""
    return dataset.open_split(str(voc_photos), "trainval", CLASSES)


@pytest.fixture
def evaluation(devkit, voc_object):
    """An evaluation of five images, one of them without objects."""
    cat, dog = voc_object("cat", 1, 1, 20, 20), voc_object("dog", 30, 10, 50, 40)
    devkit.add("right", cat, dog)
    devkit.add("half", cat, dog)
    devkit.add("wrong", cat)
    devkit.add("tall", cat, width=300, height=900)
    devkit.add("nothing")
    devkit.split("val", "right", "half", "wrong", "tall", "nothing")
    annotations = dataset.open_split(str(devkit), "val", EVALUATED)
    cat, dog, off = [0, 0, 19, 19], [29, 9, 49, 39], [20, 20, 40, 35]
    found = {
        "right": detections_of([cat, dog], [0.9, 0.8], [0, 1]),
        "half": detections_of([cat, dog], [0.7, 0.1], [0, 1]),
        "wrong": detections_of([off, off], [0.6, 0.5], [0, 2]),
        "tall": detections_of([cat], [0.95], [0]),
        "nothing": Detections.empty(),
    }
    return evaluation_lib.evaluate("my_detector", str(devkit), "val", EVALUATED, annotations, found, CONFIG)

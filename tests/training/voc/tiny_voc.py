"""A data set of a few small images with bright rectangles, a fast recipe, and runs with both."""

import pathlib

import numpy as np
from PIL import Image

from fd_keras.training.voc import detection_pipeline, detector_run
from fd_keras.training.voc.detector_recipe import DetectorRecipe

CLASSES = ("amber", "blue")


COLORS = ((220, 150, 40), (40, 60, 200))


RECIPE = DetectorRecipe(
    short_side=64, long_side=96, roi_size=4, anchor_size=16, rpn_channels=16, min_size=4, freeze_stride=0, epochs=2,
    test_proposals=50, train_proposals=200,
)  # fmt: skip


def write_devkit(folder: pathlib.Path, count: int) -> pathlib.Path:
    """Writes photos of different sizes with one or two bright rectangles on gray noise; a third one is difficult."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        width, height = rng.integers(64, 90, 2)
        pixels = rng.normal(120, 25, (height, width, 3))
        objects = []
        for place in range(1 + number % 2):
            label = (number + place) % 2
            x, y = 3 + 32 * place + rng.integers(0, 4), rng.integers(3, 30)
            x2, y2 = x + rng.integers(20, 27), y + rng.integers(20, 30)
            pixels[y:y2, x:x2] = COLORS[label]
            sides = zip(("xmin", "ymin", "xmax", "ymax"), (x + 1, y + 1, x2, y2), strict=True)
            box = "".join(f"<{tag}>{side}</{tag}>" for tag, side in sides)
            difficult = int(place == 1 and number % 3 == 0)
            objects.append(
                f"<object><name>{CLASSES[label]}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox></object>"
            )
        image = Image.fromarray(pixels.clip(0, 255).astype("uint8"))
        image.save(folder / "JPEGImages" / f"{number:03}.jpg", quality=92)
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        (folder / "Annotations" / f"{number:03}.xml").write_text(f"<annotation>{size}{''.join(objects)}</annotation>")
    names = "".join(f"{number:03}\n" for number in range(count))
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text(names)
    return folder


def make_run(annotations, run_dir, recipe=RECIPE, said=None, **config) -> detector_run.DetectorRun:
    asked = detector_run.DetectorRunConfig(recipe, "fd_mobilenet", alpha=0.25, run_dir=str(run_dir), **config)
    return detector_run.DetectorRun(
        asked, detection_pipeline.Images("photos", annotations), CLASSES, (said if said is not None else []).append
    )

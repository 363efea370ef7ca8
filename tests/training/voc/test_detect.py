import json

import numpy as np
from PIL import Image


def test_photos_are_drawn_and_boxes_printed(program, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.full((80, 120, 3), 128, "uint8")
    Image.fromarray(pixels).save(folder / "flat.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    Image.fromarray(pixels).save(folder / "turned.jpg", exif=exif)
    (folder / "broken.jpg").write_bytes(b"no photo")
    result = program("detect", "--run_dir=RUN", folder, "--output_dir=drawn")
    assert result.returncode == 1
    assert "broken.jpg: not a readable image" in result.stderr
    assert "0.75  cat               0.0     0.0    59.0    39.0" in result.stdout
    assert "0.75  cat               0.0     0.0    39.0    59.0" in result.stdout
    assert "dog" not in result.stdout
    drawn = Image.open(tmp_path / "drawn" / "flat_detected.png")
    assert drawn.format == "PNG"
    assert drawn.size == (120, 80)
    assert (np.asarray(drawn) != 128).any()
    assert Image.open(tmp_path / "drawn" / "turned_detected.jpg").size == (80, 120)

    result = program("detect", "--run_dir=RUN", folder / "flat.png", "--min_score=0.2", "--json")
    assert result.returncode == 0, result.stderr
    assert [row["class"] for row in json.loads(result.stdout)["detections"]] == ["cat", "dog"]


def test_equal_output_paths_are_rejected(program, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (20, 20)).save(tmp_path / folder / "photo.png")
    result = program("detect", "--run_dir=RUN", "a", "b")
    assert result.returncode == 1
    assert "a/photo.png and b/photo.png would both be written to" in result.stderr

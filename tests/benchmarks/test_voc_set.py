import pytest
from PIL import Image

from benchmarks import voc_set
from fd_keras.training.voc import dataset

ANNOTATION = """<annotation><size><width>{}</width><height>9</height></size><object><name>cat</name><bndbox>
<xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>"""


@pytest.fixture
def sources(tmp_path):
    """A devkit without images; three of its four images are in other folders, one of them twice."""
    devkit = tmp_path / "devkit"
    (devkit / "Annotations").mkdir(parents=True)
    (devkit / "ImageSets" / "Main").mkdir(parents=True)
    for split, names in {"train": ["000012", "000017"], "val": ["000005", "000007"]}.items():
        (devkit / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            (devkit / "Annotations" / f"{name}.xml").write_text(ANNOTATION.format(int(name)))
    for file in ("a/000012_jpg.rf.1f.jpg", "a/b/000017_jpg.rf.2e.jpg", "c/000017_jpg.rf.3d.jpg", "c/000005.jpg"):
        path = tmp_path / "images" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (int(path.name[:6]), 9)).save(path)
    return [str(tmp_path / "images" / folder) for folder in "ac"], str(devkit), tmp_path / "VOC2007"


def test_the_output_is_a_valid_data_set(sources, capsys):
    images, devkit, out = sources
    voc_set.main([*images, f"--devkit={devkit}", f"--output_dir={out}"])
    assert "train: 2 of 2 images\nval: 1 of 2 images; no image for 1: 000007" in capsys.readouterr().out
    found = dataset.open_split(str(out), "trainval")
    assert [(image.id, image.width) for image in found] == [("000005", 5), ("000012", 12), ("000017", 17)]


def test_another_image_with_the_same_name_is_rejected(sources):
    images, devkit, out = sources
    Image.new("RGB", (99, 9)).save(f"{images[1]}/000005.jpg")
    with pytest.raises(SystemExit, match="000005.xml: the size of 000005 is 5x9, but .* has 99x9 pixels"):
        voc_set.main([*images, f"--devkit={devkit}", f"--output_dir={out}"])
    assert not list((out / "ImageSets" / "Main").iterdir())

import pytest

from benchmarks import tiny_imagenet


@pytest.fixture
def source(tmp_path):
    """Two classes in the layout of Tiny-ImageNet-200; the files are not images."""
    folder = tmp_path / "tiny-imagenet-200"
    for name in ("n01", "n02"):
        (folder / "train" / name / "images").mkdir(parents=True)
        (folder / "train" / name / f"{name}_boxes.txt").write_text("")
        (folder / "train" / name / "images" / f"{name}_0.JPEG").write_text(name)
    (folder / "val" / "images").mkdir(parents=True)
    for name in ("val_0.JPEG", "val_1.JPEG"):
        (folder / "val" / "images" / name).write_text(name)
    (folder / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n")
    return folder


def test_photos_are_sorted_by_class(source, tmp_path, capsys):
    out = tmp_path / "out"
    for _ in range(2):  # the second time, all photos are there
        tiny_imagenet.main([str(source), f"--output_dir={out}"])
        assert capsys.readouterr().out == f"4 photos in {out}\n"
    assert {str(path.relative_to(out)): path.read_text() for path in out.rglob("*.JPEG")} == {
        "train/n01/n01_0.JPEG": "n01",
        "train/n02/n02_0.JPEG": "n02",
        "val/n01/val_1.JPEG": "val_1.JPEG",
        "val/n02/val_0.JPEG": "val_0.JPEG",
    }


@pytest.mark.parametrize("line", ["", "val_1.JPEG\tn03\n"])
def test_validation_photo_without_a_class_is_rejected(source, tmp_path, line):
    (source / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02\n" + line)
    with pytest.raises(
        ValueError, match=r"val_annotations.txt: val_1.JPEG has class (None|n03), which is not a folder"
    ):
        tiny_imagenet.main([str(source), f"--output_dir={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_another_folder_is_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no folder train; pass the folder tiny-imagenet-200"):
        tiny_imagenet.main([str(tmp_path), f"--output_dir={tmp_path / 'out'}"])

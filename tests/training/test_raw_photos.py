import tarfile

import pytest

from fd_keras.training import raw_photos


def test_prepare_reads_imagenets_tars(photos, tmp_path):
    with tarfile.open(tmp_path / "train.tar", "w") as outer:
        for name in ("amber", "blue", "cyan"):
            inner = tmp_path / f"{name}.tar"
            with tarfile.open(inner, "w") as tar:
                for path in sorted((photos / "train" / name).iterdir()):
                    tar.add(path, path.name)
            outer.add(inner, inner.name)
    with tarfile.open(tmp_path / "val.tar", "w") as tar:
        for path in sorted((photos / "val").glob("*/*.jpg")):
            tar.add(path, path.name)
    lines = [f"{path.name} {path.parent.name}" for path in (photos / "val").glob("*/*.jpg")]
    (tmp_path / "val.txt").write_text("\n".join(lines))
    found, classes = raw_photos.list_train(str(tmp_path / "train.tar"))
    expected, same = raw_photos.list_train(str(photos / "train"))
    assert classes == same
    assert {(raw.key, raw.label, raw.read()) for raw in found} == {(raw.key, raw.label, raw.read()) for raw in expected}
    val = raw_photos.list_val(str(tmp_path / "val.tar"), str(tmp_path / "val.txt"), classes)
    assert [classes[raw.label] for raw in val] == [raw.key.split("_")[0] for raw in val]
    (tmp_path / "val.txt").write_text("amber_000.jpg 7\n")
    with pytest.raises(ValueError, match="val.txt, line 1.*0 to 2"):
        raw_photos.list_val(str(tmp_path / "val.tar"), str(tmp_path / "val.txt"), classes)
    with pytest.raises(ValueError, match="needs --val_labels"):
        raw_photos.list_val(str(tmp_path / "val.tar"), None, classes)



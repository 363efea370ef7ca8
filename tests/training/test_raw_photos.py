import logging
import shutil
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


def tar_of(path, folder, name="") -> bytes:
    """Returns the bytes of a tar of a folder's contents."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for below in sorted(folder.iterdir()):
            tar.add(below, f"{name}{below.name}")
    return path.read_bytes()


@pytest.mark.parametrize("prefix", ["", "./", "set/train/"])
def test_the_class_of_a_photo_in_a_tar_is_its_first_folder(photos, tmp_path, caplog, prefix):
    shutil.copytree(photos / "train", tmp_path / "train")
    (tmp_path / "train" / "blue" / "more").mkdir()
    shutil.copy(photos / "val" / "blue" / "blue_000.jpg", tmp_path / "train" / "blue" / "more" / "a.webp")
    for name in ("blue/._a.jpg", "notes.txt", "stray.jpg"):
        (tmp_path / "train" / name).write_bytes(b"no photo")
    (tmp_path / "train" / "blue" / "link.jpg").symlink_to("blue_000.jpg")
    tar_of(tmp_path / "train.tar", tmp_path / "train", prefix)
    with caplog.at_level(logging.WARNING):
        found, classes = raw_photos.list_train(str(tmp_path / "train.tar"))
    assert classes == ["amber", "blue", "cyan"]
    assert [sum(raw.label == label for raw in found) for label in range(3)] == [16, 17, 16]
    for reason in (f"hidden or system files: 1 ({prefix}blue/._a.jpg)", f"not photos: 1 ({prefix}notes.txt)",
                   f"broken links or special files: 1 ({prefix}blue/link.jpg)",
                   f"outside the class folders: 1 ({prefix}stray.jpg)"):  # fmt: skip
        assert reason in caplog.text


def test_a_truncated_tar_is_rejected(photos, tmp_path):
    whole = tar_of(tmp_path / "train.tar", photos / "train")
    with tarfile.open(tmp_path / "train.tar") as tar:
        member = [member for member in tar if member.isfile()][8]
    end = member.offset_data + -(-member.size // 512) * 512
    damaged = bytearray(whole)
    damaged[end : end + 512] = b"x" * 512
    for content, message in {
        whole[:end]: f"no end mark after {end:,} bytes",
        whole[: end + 100]: "truncated",
        whole[: member.offset_data + 10]: "truncated",
        bytes(damaged): f"no end mark after {end:,} bytes",
        whole + whole: "has more data after its end mark",
    }.items():
        (tmp_path / "cut.tar").write_bytes(content)
        with pytest.raises(ValueError, match=f"cut.tar: .*{message}"):
            raw_photos.list_train(str(tmp_path / "cut.tar"))


def test_a_truncated_inner_tar_is_named(photos, tmp_path):
    (tmp_path / "inner").mkdir()
    content = tar_of(tmp_path / "inner" / "blue.tar", photos / "train" / "blue")
    (tmp_path / "inner" / "blue.tar").write_bytes(content[: len(content) // 1024 * 512])
    tar_of(tmp_path / "train.tar", tmp_path / "inner")
    with pytest.raises(ValueError, match="train.tar: .*(blue.tar|truncated)"):
        raw_photos.list_train(str(tmp_path / "train.tar"))


@pytest.mark.parametrize("name", ["train.tgz", "train.zip"])
def test_the_message_about_a_compressed_tar_has_a_remedy(photos, tmp_path, name):
    if name == "train.tgz":
        with tarfile.open(tmp_path / name, "w:gz") as tar:
            tar.add(photos / "train", ".")
    else:
        (tmp_path / name).write_bytes(b"PK\3\4")
    with pytest.raises(ValueError, match=f"{name}: not a folder or uncompressed tar. Unpack it"):
        raw_photos.list_train(str(tmp_path / name))


def test_an_empty_tar_is_named(tmp_path):
    (tmp_path / "empty.tar").touch()
    with pytest.raises(ValueError, match="empty.tar: empty file; download it again"):
        raw_photos.list_train(str(tmp_path / "empty.tar"))


def test_split_folders_are_not_classes(photos):
    with pytest.raises(ValueError, match="contains train and val, not classes; .* --train=.*/train"):
        raw_photos.list_train(str(photos))

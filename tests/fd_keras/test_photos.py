import io
import logging
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fd_keras import photos
from fd_keras.photos import list_images


def write(folder, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_photos_below_a_folder_are_found_in_order(tmp_path):
    write(tmp_path, "b.jpg", "a.PNG", "deep/er/c.jpeg", "d.webp", "e.TIFF")
    found = [os.path.relpath(path, tmp_path) for path in list_images(tmp_path)]
    assert found == ["a.PNG", "b.jpg", "d.webp", "deep/er/c.jpeg", "e.TIFF"]


def test_skipped_files_are_counted_by_reason(tmp_path, caplog):
    write(tmp_path, "a.jpg", "notes.txt", "Thumbs.db", ".DS_Store", "._a.jpg", "__MACOSX/._b.jpg", ".git/c.jpg")
    write(tmp_path, "@eaDir/a.jpg/thumb.jpg", "desktop.ini", "1.csv", "2.csv", "3.csv", "IMG_1.HEIC", "new\nline.txt")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    with caplog.at_level(logging.WARNING):
        assert list_images(tmp_path) == [str(tmp_path / "a.jpg")]
    assert caplog.messages == [
        f"{tmp_path}: skipped broken links or special files: 1 (gone.jpg), "
        "files that are not photos: 5 (1.csv, 2.csv, 3.csv, ...), "
        "hidden or system files: 7 (.DS_Store, ._a.jpg, .git/, ...), "
        "photos of an unsupported format (convert them to JPEG or PNG): 1 (IMG_1.HEIC)"
    ]
    write(tmp_path / "odd", "new\nline.txt")
    with pytest.raises(ValueError, match=r"no images in .*\.webp; skipped files that are not photos: 1 \(new\\nline"):
        list_images(tmp_path / "odd")


def test_linked_folders_are_searched_once(tmp_path):
    write(tmp_path, "photos/cats/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "photos" / "dogs").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "photos")
    left_out = photos.LeftOut()
    assert photos.find(str(tmp_path / "photos"), left_out) == ["cats/a.jpg", "dogs/b.jpg"]
    assert photos.find(str(tmp_path / "photos"), left_out, "dogs") == ["dogs/b.jpg"]
    assert str(left_out) == "links to a parent folder: 2 (dogs/circle/, dogs/circle/)"


def test_an_output_folder_inside_the_class_folders_is_rejected(tmp_path):
    write(tmp_path, "photos/cats/a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    for inside in ("photos", "photos/mine", "photos/cats/mine", "link/mine", "photos/../photos/mine"):
        with pytest.raises(ValueError, match=f"^--run_dir={tmp_path}/{inside}: is inside the photos in "):
            photos.check_outside(str(tmp_path / "photos"), str(tmp_path / inside), "--run_dir")
    for outside in (str(tmp_path / "photos2"), str(tmp_path), "gs://bucket/photos"):
        photos.check_outside(str(tmp_path / "photos"), outside, "--run_dir")


def test_a_single_file_may_have_any_name(tmp_path):
    write(tmp_path, "photo")
    assert list_images(tmp_path / "photo") == [str(tmp_path / "photo")]


def test_a_folder_without_photos_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing: no such file or folder"):
        list_images(tmp_path / "missing")
    with pytest.raises(ValueError, match="no images in this folder .*.jpeg"):
        list_images(tmp_path)


def test_skipped_files_of_classes_are_counted_or_logged(tmp_path, caplog):
    write(tmp_path, "a/1.jpg", "a/x.txt", "b/2.jpg", ".git/3.jpg", "stray.jpg")
    left_out = photos.LeftOut()
    with caplog.at_level(logging.WARNING):
        assert photos.list_classes(str(tmp_path), left_out) == {"a": ["a/1.jpg"], "b": ["b/2.jpg"]}
    assert not caplog.messages
    counted = (
        "files that are not photos: 1 (a/x.txt), hidden or system files: 1 (.git/), "
        "photos outside the class folders: 1 (stray.jpg)"
    )
    assert str(left_out) == counted
    with caplog.at_level(logging.WARNING):
        photos.list_classes(str(tmp_path))
    assert caplog.messages == [f"{tmp_path}: skipped {counted}"]


# --- opening -----------------------------------------------------------------------------------------------


def opened(data: bytes) -> np.ndarray:
    with photos.opened(io.BytesIO(data)) as image:
        return np.asarray(photos.rgb(image))


def png_header(width: int, height: int) -> bytes:
    """A PNG with a size and without pixels."""
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")
    parts = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
             for kind, body in chunks]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("sides", [(10_000, 9_000), (30_000, 30_000), (2**31 - 1, 1)])
def test_images_with_too_many_pixels_are_rejected_by_their_header(sides):
    with pytest.raises(ValueError, match="pixels"):
        opened(png_header(*sides))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_jpeg_is_decoded_at_half_its_size(monkeypatch, progressive):
    data = io.BytesIO()
    Image.new("RGB", (64, 48), (10, 200, 30)).save(data, "JPEG", progressive=progressive)
    assert opened(data.getvalue()).shape == (48, 64, 3)
    monkeypatch.setattr(photos, "MAX_PIXELS", 64 * 48 - 1)
    if progressive:  # all of its coefficients would be in memory
        with pytest.raises(ValueError, match="64x48 pixels, more than 3,071"):
            opened(data.getvalue())
    else:
        assert opened(data.getvalue()).shape == (24, 32, 3)


def test_postscript_is_not_run():
    with pytest.raises(ValueError, match="not a readable image .PostScript"):
        opened(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")


def test_the_error_for_an_invalid_image_has_no_memory_addresses():
    with pytest.raises(ValueError, match=r"^not a readable image \(unknown format\)$"):
        opened(b"text")

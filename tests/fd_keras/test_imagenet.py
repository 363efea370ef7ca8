import hashlib
import inspect
import struct
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from fd_keras import imagenet
from fd_keras.imagenet import load_image

# Height and width of synthetic images: odd, square, panoramas, tiny, large, and two whose resized longer side differs
# between rounding and truncation.
SIZES = [
    (300, 451),
    (451, 300),
    (256, 256),
    (100, 900),
    (900, 100),
    (7, 5),
    (1, 1),
    (1201, 1600),
    (416, 500),
    (333, 500),
]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An RGB image with edges, noise and smooth areas, which reveals shifts and other filters."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    smooth = np.stack([rows * 255 / height, columns * 255 / width, (rows + columns) % 256], -1)
    noise = rng.integers(0, 256, (height, width, 3))
    return np.where(((rows // 16 + columns // 16) % 2)[..., None], smooth, noise).astype("uint8")


def torchvision_crop(image: Image.Image, resize: int = 256, crop: int = 224) -> np.ndarray:
    """torchvision's Resize(resize) and CenterCrop(crop) for PIL images."""
    image = image.convert("RGB")
    width, height = image.size
    short, long = (width, height) if width <= height else (height, width)
    new_short, new_long = resize, int(resize * long / short)
    new_width, new_height = (new_short, new_long) if width <= height else (new_long, new_short)
    image = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
    top, left = int(round((new_height - crop) / 2.0)), int(round((new_width - crop) / 2.0))
    return np.asarray(image)[top : top + crop, left : left + crop]


@pytest.fixture
def save(tmp_path):
    """Writes a PIL image to a file and returns its path."""

    def save(image: Image.Image, name: str = "image.png", **options) -> str:
        image.save(tmp_path / name, **options)
        return str(tmp_path / name)

    return save


# --- loading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_images_are_loaded_as_in_torchvision(save, size):
    image = Image.fromarray(picture(*size))
    found = load_image(save(image))
    assert found.dtype == np.uint8
    assert np.array_equal(found, torchvision_crop(image))


@pytest.mark.parametrize(("side", "resize"), [(224, 256), (160, 182), (128, 146), (32, 36)])
def test_other_sizes_are_resized_in_proportion(save, side, resize):
    image = Image.fromarray(picture(300, 451))
    assert np.array_equal(load_image(save(image), (side, side)), torchvision_crop(image, resize, side))


@pytest.mark.parametrize("size", [(224, 112), (112, 224), (64, 200)])
@pytest.mark.parametrize("image", [(300, 451), (451, 300), (50, 900), (256, 256)])
def test_non_square_size_is_covered_without_distortion(size, image):
    target = imagenet.resize_target(size)
    height, width = imagenet.resized_size(*image, target)
    assert height >= target[0]
    assert width >= target[1]
    assert height == target[0] or width == target[1]
    assert height / width == pytest.approx(image[0] / image[1], rel=1 / min(height, width))


@pytest.mark.parametrize(("height", "offset"), [(224, 0), (225, 0), (226, 1), (227, 2), (228, 2), (229, 2), (231, 4)])
def test_crop_offsets_are_rounded_as_in_torchvision(height, offset):
    assert int(round((height - 224) / 2.0)) == offset
    assert imagenet.crop_offset(height, 224, (224, 224)) == (offset, 0)


def test_jpegs_are_decoded_as_in_pil(save):
    path = save(Image.fromarray(picture(300, 400)), "image.jpg", quality=80)
    assert np.array_equal(load_image(path), torchvision_crop(Image.open(path)))


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "CMYK", "YCbCr"])
def test_all_modes_are_converted_to_rgb(save, mode):
    image = Image.fromarray(picture(300, 400)).convert(mode)
    path = save(image, "image.jpg" if mode in ("CMYK", "YCbCr") else "image.png")
    found = load_image(path)
    assert found.shape == (224, 224, 3)
    assert np.array_equal(found, torchvision_crop(Image.open(path)))


def test_gray_images_have_equal_channels(save):
    found = load_image(save(Image.fromarray(picture(300, 400)).convert("L")))
    assert np.array_equal(found[..., 0], found[..., 1])
    assert found.std() > 30


def test_transparency_is_dropped(save):
    opaque = picture(300, 400)
    alpha = np.full((300, 400, 1), 10, "uint8")
    assert np.array_equal(
        load_image(save(Image.fromarray(np.concatenate([opaque, alpha], -1)))),
        torchvision_crop(Image.fromarray(opaque)),
    )


def test_16_bit_images_are_scaled_to_8_bits(save):
    gray = picture(300, 400)[..., 0]
    deep = Image.fromarray(gray.astype("uint16") * 257)
    assert deep.mode == "I;16"
    found = load_image(save(deep), (224, 224)).astype(int)
    assert np.abs(found - torchvision_crop(Image.fromarray(gray))).max() <= 1


def test_the_first_frame_of_an_animation_is_used(save):
    first, second = (Image.fromarray(picture(256, 256, seed)).convert("P") for seed in (1, 2))
    path = save(first, "image.gif", save_all=True, append_images=[second])
    assert np.array_equal(load_image(path), torchvision_crop(first))


@pytest.mark.parametrize(("size", "offset"), [((227, 227), (2, 2)), ((224, 300), (0, 38)), ((401, 225), (88, 0))])
def test_without_resizing_the_center_is_cropped(save, size, offset):
    pixels = picture(*size)
    top, left = offset
    found = load_image(save(Image.fromarray(pixels)), resize=False)
    assert np.array_equal(found, pixels[top : top + 224, left : left + 224])


@pytest.mark.parametrize("size", [(223, 300), (300, 223), (10, 10)])
def test_without_resizing_a_small_image_is_rejected(save, size):
    path = save(Image.fromarray(picture(*size)))
    with pytest.raises(ValueError, match=f"image.png: {size[1]}x{size[0]} pixels, too small .* 224x224"):
        load_image(path, resize=False)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright_on_request(save, orientation):
    upright = picture(300, 400)
    # The stored pixels: the inverse of the transform that the tag describes (EXIF 2.3, tag 0x0112).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(load_image(path, upright=True), torchvision_crop(Image.fromarray(upright)))
    assert np.array_equal(load_image(path), torchvision_crop(Image.fromarray(np.ascontiguousarray(stored))))


# --- invalid images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"no image", b"<html></html>", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_not_an_image_is_named(tmp_path, content):
    (tmp_path / "broken.jpg").write_bytes(content)
    with pytest.raises(ValueError, match="broken.jpg: not a readable image"):
        load_image(tmp_path / "broken.jpg")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("percent", [10, 50, 90])
def test_a_truncated_image_is_named(save, suffix, percent):
    path = save(Image.fromarray(picture(300, 400)), f"broken{suffix}")
    content = Path(path).read_bytes()
    with open(path, "wb") as file:
        file.write(content[: len(content) * percent // 100])
    with pytest.raises(ValueError, match=f"broken{suffix}: not a readable image"):
        load_image(path)


def test_missing_image_and_folder_raise_their_own_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_image(tmp_path / "missing.jpg")
    with pytest.raises(IsADirectoryError):
        load_image(tmp_path)


def test_a_decompression_bomb_is_rejected(tmp_path):
    """The file is the header of a bitmap of 40,000 x 40,000 pixels."""
    header = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54)
    header += struct.pack("<IiiHHIIiiII", 40, 40000, 40000, 1, 24, 0, 0, 0, 0, 0, 0)
    (tmp_path / "bomb.bmp").write_bytes(header)
    with pytest.raises(ValueError, match="bomb.bmp: not a readable image"):
        load_image(tmp_path / "bomb.bmp")


def exif_of(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF data with directory entries (tag, type, count, four bytes of value)."""
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + directory + bytes(4)


BROKEN_EXIF = {
    "orientation is text": exif_of((0x0112, 2, 4, b"abc\0")),
    "orientation 6, another tag of a wrong type": exif_of((0x010F, 5, 1, b"\x08\0\0\0"), (0x0112, 3, 1, b"\x06\0\0\0")),
    "orientation 6, whole number as a fraction": exif_of((0x0100, 5, 1, b"\x08\0\0\0"), (0x0112, 3, 1, b"\x06\0\0\0")),
    "truncated": exif_of((0x0112, 3, 1, b"\x06\0\0\0"))[:20],
    "no directory": b"Exif\0\0II*\0",
}


@pytest.mark.parametrize("exif", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_does_not_crash(save, exif):
    path = save(Image.fromarray(picture(300, 400)), "photo.jpg", exif=exif)
    shape, message = (224, 224, 3), "photo.jpg"
    try:
        shape = load_image(path, upright=True).shape
    except ValueError as error:
        message = str(error)
    assert shape == (224, 224, 3)
    assert "photo.jpg" in message


@pytest.mark.parametrize("shape", [(1, 50_000), (50_000, 1), (2, 60_001)])
def test_a_long_thin_image_is_resized_with_bounded_memory(save, shape, monkeypatch):
    sizes = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, size, *more: sizes.append(size) or resize(self, size, *more)
    )
    pixels = np.zeros((*shape, 3), "uint8")
    middle = tuple(slice(side // 2 - 40, side // 2 + 40) if side > 80 else slice(None) for side in shape)
    pixels[middle] = (10, 200, 30)
    image = load_image(save(Image.fromarray(pixels), "long.png"))
    assert (image == (10, 200, 30)).all()
    assert max(sizes[0]) <= 64 * 256


# --- normalization -----------------------------------------------------------------------------------------


def reference_normalized(pixels: np.ndarray) -> np.ndarray:
    """torchvision's ToTensor and Normalize, in float64, channels last."""
    return (pixels.astype("float64") / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
def test_arrays_are_normalized(dtype):
    pixels = picture(8, 9).astype(dtype)
    assert np.allclose(imagenet.preprocess_input(pixels, False), reference_normalized(pixels), atol=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_tensors_are_normalized(dtype):
    pixels = picture(8, 9)
    found = imagenet.preprocess_input(keras.ops.convert_to_tensor(pixels.astype(dtype)), include_preprocessing=False)
    assert np.allclose(np.asarray(found), reference_normalized(pixels), atol=1e-5)


def test_keras_tensors_are_normalized(run):
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, imagenet.preprocess_input(image, include_preprocessing=False))
    pixels = picture(4, 4)[None].astype("float32")
    assert np.allclose(run(model, pixels), reference_normalized(pixels), atol=1e-5)


def test_rescaling_equals_the_normalization():
    scale, offset = (np.array(values) for values in imagenet.rescaling().values())
    pixels = picture(8, 9)
    assert np.allclose(pixels * scale + offset, reference_normalized(pixels))


def test_by_default_pixels_are_not_changed():
    assert inspect.signature(imagenet.preprocess_input).parameters["include_preprocessing"].default is True
    pixels = picture(4, 4)
    assert imagenet.preprocess_input(pixels) is pixels


# --- classes -----------------------------------------------------------------------------------------------


def test_class_names():
    names = imagenet.class_names()
    assert len(names) == 1000
    known = {0: "tench", 281: "tabby", 985: "daisy", 999: "toilet tissue", 207: "golden retriever", 388: "giant panda"}
    assert {label: names[label] for label in known} == known
    assert {name for name in names if names.count(name) > 1} == {"crane", "maillot"}


def test_class_names_equal_the_published_list(data):
    lines = (data / "imagenet" / "synset_words.txt").read_text().splitlines()
    published = [line.split(" ", 1) for line in lines]
    found = [row[0] for row in imagenet.decode_predictions(np.eye(1000), top=1)]
    assert [wnid for wnid, _, _ in found] == [wnid for wnid, _ in published]
    for (_, name, _), (_, names) in zip(found, published, strict=True):
        assert name == names.split(",")[0].strip().replace(" ", "_")


def test_predicted_names_are_spelled_as_in_keras():
    """The hash is that of the names in Keras's imagenet_class_index.json, in label order, one per line."""
    names = [row[0][1] for row in imagenet.decode_predictions(np.eye(1000), top=1)]
    assert names[388] == "giant_panda"
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    assert digest == "00431496b02b35ec4cfbd126430c7a150ff2d07ddc3d068de901f8e0aecdbe23"


def test_predictions_are_decoded_best_first():
    scores = np.zeros((2, 1000), "float32")
    scores[0, [281, 985]] = 0.75, 0.25
    scores[1, 0] = 1
    first, second = imagenet.decode_predictions(scores, top=2)
    assert first == [("n02123045", "tabby", 0.75), ("n11939491", "daisy", 0.25)]
    assert second[0] == ("n01440764", "tench", 1.0)
    assert len(imagenet.decode_predictions(scores)[0]) == 5


def test_tensors_are_decoded():
    scores = keras.ops.convert_to_tensor(np.eye(1000, dtype="float32")[:3])
    assert [row[0][2] for row in imagenet.decode_predictions(scores, top=1)] == [1.0, 1.0, 1.0]


def test_ties_are_broken_by_label():
    assert imagenet.top_classes(np.zeros((1, 1000)), 3).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("shape", [(1000,), (1, 1001), (1, 10), (1, 1, 1000), (0,)])
def test_predictions_of_another_shape_are_rejected(shape):
    with pytest.raises(ValueError, match=r"\(batch, 1000\); got \("):
        imagenet.decode_predictions(np.zeros(shape))

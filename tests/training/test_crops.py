import io
import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fd_keras import imagenet, photos
from fd_keras.training import crops

DRAWS = 4000


def _boxes(height, width, scale):
    draws = tf.data.Dataset.from_tensor_slices(crops.draw_boxes(DRAWS, tf.constant([1, 2], tf.int64), scale))
    boxes = draws.map(lambda draw: crops.random_box(tf.constant([height, width]), draw))
    return next(iter(boxes.batch(DRAWS))).numpy()


def _reference(height, width, scale, generator):
    """torchvision's RandomResizedCrop.get_params, reimplemented from its documentation."""
    for _ in range(10):
        area = height * width * generator.uniform(scale, 1)
        ratio = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return generator.integers(0, height - h + 1), generator.integers(0, width - w + 1), h, w
    ratio = width / height
    if ratio < 3 / 4:
        w, h = width, round(width / (3 / 4))
    elif ratio > 4 / 3:
        w, h = round(height * 4 / 3), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(("height", "width", "scale"), [(375, 500, 0.64), (500, 375, 0.36), (300, 300, 0.08)])
def test_boxes_are_distributed_as_in_torchvision(height, width, scale):
    ours = _boxes(height, width, scale)
    generator = np.random.default_rng(1)
    theirs = np.array([_reference(height, width, scale, generator) for _ in range(DRAWS)])
    for column in range(4):
        a, b = np.sort(ours[:, column]), np.sort(theirs[:, column])
        grid = np.union1d(a, b)
        distance = np.abs(np.searchsorted(a, grid, "right") - np.searchsorted(b, grid, "right")).max() / DRAWS
        # Kolmogorov-Smirnov: two samples of 4000 from one distribution exceed this once in 100,000 cases
        assert distance < 2.47 * math.sqrt(2 / DRAWS), f"column {column}"


def test_boxes_lie_within_the_image():
    boxes = _boxes(97, 61, 0.08)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] > 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= 97).all()
    assert (boxes[:, 1] + boxes[:, 3] <= 61).all()


@pytest.mark.parametrize(("height", "width", "box"), [(100, 1000, (0, 433, 100, 133)), (1000, 100, (433, 0, 133, 100))])
def test_panoramas_fall_back_to_the_central_crop(height, width, box):
    assert np.unique(_boxes(height, width, 0.9), axis=0).tolist() == [list(box)]


def _photo(height, width, seed=0):
    """Returns a smooth random image, similar to a photo."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 6, width // 6, 3), dtype="uint8")
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def _encoded(image, form):
    data = io.BytesIO()
    image.save(data, form, quality=90)
    return data.getvalue()


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (256, 257), (640, 640), (180, 240)])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_evaluation_crops_equal_pils_within_one_gray_level(tmp_path, height, width, form):
    data = _encoded(_photo(height, width), form)
    (tmp_path / "photo").write_bytes(data)
    reference = imagenet.load_image(tmp_path / "photo").astype(int)
    assert np.abs(crops.eval_crop(data, imagenet.SIZE).numpy() - reference).max() <= 1


def _draw(seed, scale=0.64):
    return crops.draw_boxes(1, tf.constant(seed, tf.int64), scale)[0]


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize(("size", "antialias"), [(96, True), (400, True), (400, False)])
def test_training_crops_contain_the_box(form, size, antialias):
    data, draw = _encoded(_photo(240, 320), form), _draw((5, 6))
    top, left, height, width = crops.random_box(tf.constant([240, 320]), draw).numpy().tolist()
    box = Image.open(io.BytesIO(data)).convert("RGB").crop((left, top, left + width, top + height))
    reference = np.asarray(box.resize((size, size), Image.Resampling.BILINEAR)).astype(int)
    error = np.abs(crops.train_crops([data], [draw], size, antialias)[0].numpy() - reference)
    # A PNG is equal up to rounding. A JPEG's crop is decoded by the fast transform, whose errors are small on average.
    assert error.max() <= 1 if form == "PNG" else error.mean() < 1.5


@pytest.mark.parametrize("size", [64, 224, 300])
def test_without_antialiasing_crops_equal_tensorflows_resize(size):
    data, draw = _encoded(_photo(240, 320), "PNG"), _draw((5, 6))
    top, left, height, width = crops.random_box(tf.constant([240, 320]), draw).numpy().tolist()
    box = tf.io.decode_image(data)[top : top + height, left : left + width]
    reference = tf.image.resize(box, (size, size)).numpy()
    assert np.abs(crops.train_crops([data], [draw], size, False)[0].numpy() - reference).max() <= 1


def test_without_antialiasing_a_shrunk_crop_is_coarser():
    data, draw = _encoded(_photo(240, 320), "PNG"), _draw((5, 6))
    fine, coarse = (
        crops.train_crops([data], [draw], 96, antialias)[0].numpy().astype(int) for antialias in (True, False)
    )
    assert np.abs(fine - coarse).max() > 10


def test_training_crops_depend_only_on_the_draw():
    data = _encoded(_photo(240, 320), "JPEG")
    first, again, other = (
        crops.train_crops([data], [_draw(seed, 0.36)], 64, False).numpy() for seed in ((1, 2), (1, 2), (1, 3))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("antialias", [True, False])
def test_crops_of_several_photos_equal_those_of_each(antialias):
    data = [_encoded(_photo(200 + 20 * number, 300, number), "JPEG") for number in range(3)]
    draws = [_draw((1, number)) for number in range(3)]
    together = crops.train_crops(data, draws, 96, antialias).numpy()
    for number in range(3):
        alone = crops.train_crops(data[number : number + 1], draws[number : number + 1], 96, antialias, jpegs=True)
        assert np.array_equal(together[number], alone[0].numpy())


def _formats() -> dict[str, bytes]:
    """One image in all common formats and modes."""
    image = _photo(60, 90)
    deep = Image.fromarray(np.asarray(image.convert("L")).astype("uint16") * 257)
    modes = {"CMYK.jpg": image.convert("CMYK"), "L.jpg": image.convert("L"), "progressive.jpg": image}
    modes |= {"RGB.png": image, "P.png": image.quantize(64), "RGBA.png": image.convert("RGBA"), "I;16.png": deep}
    modes |= {"1.png": image.convert("1"), "LA.png": image.convert("LA"), "P.bmp": image.quantize(64), "RGB.bmp": image}
    modes |= {"1.bmp": image.convert("1"), "RGB.webp": image, "RGBA.webp": image.convert("RGBA"), "RGB.tif": image}
    modes |= {"CMYK.tif": image.convert("CMYK"), "I;16.tif": deep, "animated.gif": image, "animated.webp": image}
    found = {}
    for name, picture in modes.items():
        frames = {"save_all": True, "append_images": [_photo(60, 90, 1)]} if name.startswith("animated") else {}
        data = io.BytesIO()
        form = {"jpg": "JPEG", "tif": "TIFF"}.get(name[-3:], name.rpartition(".")[2].upper())
        picture.save(data, form, progressive=name.startswith("progressive"), **frames)
        found[name] = data.getvalue()
    return found


def test_all_formats_are_decoded_as_by_pil():
    for name, data in _formats().items():
        with photos.opened(io.BytesIO(data)) as image:
            reference = np.asarray(photos.rgb(image))
        assert np.array_equal(crops.decode(data).numpy(), reference), name
        assert crops.eval_crop(data, 32).shape == (32, 32, 3), name
        crop = crops.train_crops([data], [_draw((5, 6))], 32, False)[0]
        top, left, height, width = crops.random_box(tf.constant([60, 90]), _draw((5, 6))).numpy().tolist()
        resized = tf.image.resize(reference[top : top + height, left : left + width], (32, 32)).numpy()
        assert np.abs(crop.numpy() - resized).mean() < (2.5 if name.endswith("jpg") else 1), name


@pytest.mark.parametrize("jpegs", [True, False])
def test_the_graph_of_a_crop_is_built_once_for_all_photos(jpegs, monkeypatch):
    built, random_box = [], crops.random_box
    monkeypatch.setattr(crops, "random_box", lambda *arguments: built.append(1) or random_box(*arguments))
    data, draws = tf.constant([_encoded(_photo(60, 90), "JPEG")] * 8), crops.draw_boxes(8, tf.constant([1, 2]), 0.64)
    both = tf.data.Dataset.from_tensors((data, draws))
    (images,) = both.map(lambda *each: crops.train_crops(*(tf.unstack(one, 8) for one in each), 32, False, jpegs))
    assert images.shape == (8, 32, 32, 3)
    assert len(built) == (1 if jpegs else 2)  # for JPEGs, and for other formats


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_photos_with_too_many_pixels_are_rejected_by_their_header(form, monkeypatch):
    data = _encoded(_photo(60, 90), form) if form != "JPEG" else _formats()["progressive.jpg"]
    monkeypatch.setattr(photos, "MAX_PIXELS", 60 * 90 - 1)
    for decode in (crops.decode, lambda data: crops.train_crops([data], [_draw((5, 6))], 32, False)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="90x60 pixels, more than 5,399"):
            list(tf.data.Dataset.from_tensors(data).map(decode))


@pytest.mark.parametrize("shape", [(1, 40_000), (40_000, 1), (3, 9_001)])
def test_evaluation_of_a_long_thin_photo_needs_little_memory(tmp_path, shape, monkeypatch):
    data = _encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), "uint8")), "PNG")
    (tmp_path / "photo").write_bytes(data)
    sizes, resize = [], tf.image.resize

    def resizing(image, size, **options):
        sizes.append(max(size))
        return resize(image, size, **options)

    monkeypatch.setattr(tf.image, "resize", resizing)
    reference = imagenet.load_image(tmp_path / "photo", (32, 32)).astype(int)
    assert np.abs(crops.eval_crop(data, 32).numpy() - reference).max() <= 1
    assert sizes[0] <= imagenet.LONGEST * 36

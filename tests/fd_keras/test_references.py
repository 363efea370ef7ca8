"""Compares our networks with the original ones of the checkpoints; see fixtures/make_references.py."""

import hashlib

import numpy as np
import pytest

import fd_keras
from fd_keras import applications, imagenet, zoo
from fd_keras.spec import lower

IMGCLSMOB = {
    "fdmobilenet_wd4": ("fd_mobilenet", 0.25, {}),
    "mobilenet_wd4": ("mobilenet", 0.25, {}),
    "shufflenet_g1_wd4": ("shufflenet", 0.25, {"groups": 1, "stem_multiplier": 0.25}),
    "shufflenet_g3_wd4": ("shufflenet", 0.25, {"groups": 3, "stem_multiplier": 0.25}),
    "shufflenet_g8_w1": ("shufflenet", 1.0, {"groups": 8}),
}


@pytest.mark.parametrize("file", IMGCLSMOB)
def test_logits_equal_those_of_imgclsmob(references, tmp_path, build, run, file):
    name, alpha, arguments = IMGCLSMOB[file]
    model = build(
        name,
        alpha=alpha,
        weights=references.write_imgclsmob(tmp_path / f"{file}.tf2.h5", file),
        classes=1000,
        input_shape=None,
        classifier_activation=None,
        include_preprocessing=False,
        **arguments,
    )
    found = run(model, references.seeded_images())[:, references.imgclsmob["picks"]]
    expected = np.array(references.imgclsmob["networks"][file]["logits"])
    # The seeded ShuffleNets have logits up to 70, where float32 has steps of 1e-5; hence the relative tolerance.
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-4), np.abs(found - expected).max()


def test_reference_logits_differ_between_images(references):
    for network in references.imgclsmob["networks"].values():
        first, second = np.array(network["logits"])
        assert np.abs(first - second).max() > 0.1
        assert np.abs(first).max() < 100


def test_our_networks_have_all_variables_of_the_layout(references):
    def elements(tree) -> int:
        return sum(elements(item) if isinstance(item, dict) else int(np.prod(item)) for item in tree.values())

    for file, (name, alpha, arguments) in IMGCLSMOB.items():
        ops = lower(zoo.get_arch(name, **arguments), alpha)
        statistics = sum(2 * op.cout for op in ops if op.batch_norm)
        layout = references.imgclsmob["networks"][file]["layout"]
        assert elements(layout) == sum(op.parameters for op in ops) + statistics


@pytest.fixture(scope="session")
def authors(data, build):
    """A function from a width to the network with the authors' weights, whose outputs are logits."""

    def load(alpha: str):
        path = data / "weights" / f"{alpha}x-FDMobileNet-224.pth.tar"
        return build(
            "fd_mobilenet", alpha=float(alpha), weights=path, classes=1000, input_shape=None, classifier_activation=None
        )

    return load


@pytest.mark.parametrize("alpha", ["0.25", "0.5"])
def test_logits_on_photos_equal_those_of_the_authors_torch_code(references, data, authors, run, alpha):
    photos = references.photos
    images = np.stack([imagenet.load_image(data / "imagenet" / name) for name in photos["logits"][alpha]])
    logits = run(authors(alpha), images.astype("float32"))
    expected = np.array(list(photos["logits"][alpha].values()))
    assert np.allclose(logits[:, photos["picks"]], expected, rtol=0, atol=1e-4)
    assert logits.argmax(-1).tolist() == list(photos["best"][alpha].values())


def test_pixels_of_photos_equal_those_of_the_reference(references, data):
    for name, digest in references.photos["sha256"].items():
        pixels = imagenet.load_image(data / "imagenet" / name, resize=name.startswith("sample"))
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == digest, name


def test_a_network_without_top_loads_the_authors_weights(data, authors, run):
    path = data / "weights" / "0.25x-FDMobileNet-224.pth.tar"
    trunk = fd_keras.FDMobileNet(alpha=0.25, weights=path, include_top=False, pooling="avg", input_shape=(224, 224, 3))
    image = imagenet.load_image(data / "imagenet" / "sample" / "n01440764_tench.JPEG")[None].astype("float32")
    whole = authors("0.25")
    kernel, bias = whole.get_layer("predictions").get_weights()
    assert np.allclose(run(trunk, image) @ kernel + bias, run(whole, image), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("alpha", "other"), [("0.25", 0.5), ("0.5", 0.25)])
def test_the_width_of_the_authors_files_is_named(data, alpha, other):
    path = data / "weights" / f"{alpha}x-FDMobileNet-224.pth.tar"
    with pytest.raises(ValueError, match=f"The file fits alpha={alpha}."):
        applications.build_by_name("fd_mobilenet", alpha=other, weights=path)


def test_accuracy_on_validation_photos_equals_that_of_torch(data, authors, run):
    """torch has 51.5% on 1,000 photos and 54.15% on these 1,300 easy ones, of which every fifth is tested."""
    lines = (data / "imagenet" / "val_labels.txt").read_text().splitlines()[::5]
    names, labels = zip(*(line.split() for line in lines), strict=True)
    images = [imagenet.load_image(data / "imagenet" / "val" / name, resize=False) for name in names]
    logits = run(authors("0.25"), np.stack(images).astype("float32"))
    accuracy = np.mean(logits.argmax(-1) == np.array(labels, int))
    assert accuracy == pytest.approx(0.5415, abs=3 * (0.25 / len(names)) ** 0.5)  # three standard errors

"""Fixtures: small models with special characters in class names, a served page, a browser and a test device."""

import json
import pathlib
import threading
from collections.abc import Iterator

import keras
import numpy as np
import pytest
from PIL import Image

from fd_keras.android_bench.models import ModelFile, read_model
from fd_keras.errors import ProgramError
from fd_keras.io import write_json
from fd_keras.sidecar import sidecar_path
from fd_keras.tflite import export
from fd_keras.tflite.recipes import RECIPES, Calibration
from fd_keras.web import folder, page_models, runtime
from fd_keras.web.server import PageServer
from tests import browser
from tests.android_bench.conftest import _phones, phone, phones  # noqa: F401

SIZE = (64, 96)  # not square, so that swapping height and width fails
NAMES = ["<b>bold</b>", '"quote" & co', "plain", "\u202eright to left"]
COLORS = ((220, 40, 40), (40, 200, 60), (50, 60, 220), (230, 220, 60))


def pytest_itemcollected(item):
    item.add_marker(pytest.mark.tensorflow_only(reason="the converter reads TensorFlow graphs"))


def photo(seed: int, size: tuple[int, int]) -> Image.Image:
    """A smooth image in one of the colors, with noise; `size` is (width, height)."""
    random = np.random.default_rng(seed)
    coarse = random.normal(COLORS[seed % len(COLORS)], 60, (7, 9, 3)).clip(0, 255).astype("uint8")
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def classifier() -> keras.Model:
    """A classifier of the color of `photo`. Its scores are not saturated, so that other pixels give other scores."""
    image = keras.Input((*SIZE, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 64, -2)(image))
    model = keras.Model(image, keras.layers.Dense(len(NAMES), "softmax")(pooled))
    colors = np.array(COLORS, "float32") / 64 - 2
    model.layers[-1].set_weights([colors.T / 2, -(colors**2).sum(axis=1) / 4])
    return model


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> list[ModelFile]:
    """The classifier as float32 and int8 files, with class names in their JSON files."""
    images = np.stack([np.asarray(photo(seed, SIZE[::-1])) for seed in range(32)])
    calibration = Calibration(tuple(f"{i}.png" for i in range(32)), images)
    source = {"arch": None, "keras_model": None, "weights_sha256": "0" * 64, "class_names": NAMES}
    place = str(tmp_path_factory.mktemp("models"))
    recipes = [RECIPES["float32"], RECIPES["int8"]]
    paths = list(export.write(classifier(), "colors", source, recipes, place, calibration=calibration))
    for path in paths:
        facts = json.loads(pathlib.Path(sidecar_path(path)).read_text())
        write_json(sidecar_path(path), facts | {"class_names": NAMES})
    return [read_model(pathlib.Path(path)) for path in paths]


@pytest.fixture(scope="session")
def models(sources) -> list[page_models.PageModel]:
    return [page_models.describe(source) for source in sources]


@pytest.fixture(scope="session")
def runtime_files() -> dict[str, bytes]:
    """LiteRT.js from the cache or the registry."""
    try:
        return runtime.files(None)
    except ProgramError as error:
        if "sha512 differs" in str(error):  # not missing, but damaged or another release
            raise
        pytest.skip(
            f"needs LiteRT.js: connect to the npm registry, or put the files of `npm pack {runtime.RELEASES}` into "
            f"{runtime.cache_dir()} ({error})"
        )


@pytest.fixture(scope="session")
def page(models, runtime_files, tmp_path_factory) -> pathlib.Path:
    """The folder of a page with both models."""
    place = tmp_path_factory.mktemp("pages") / "page"
    folder.write(str(place), models, runtime_files)
    return place


@pytest.fixture
def serve(page):
    """A function that serves the page; measurements are passed to `save`."""
    servers = []

    def start(save=lambda sent: 0, place: pathlib.Path = page) -> PageServer:
        servers.append(PageServer(str(place), 0, save))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def write_packages(folder: pathlib.Path, version: str = runtime.VERSION) -> pathlib.Path:
    """Writes fake packages of LiteRT.js in the layout of `npm install`; each file contains its own path."""
    for package in runtime.PACKAGES:
        root = folder / "node_modules" / package.name
        for path in package.files:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(path)
        (root / "package.json").write_text(f'{{"version": "{version}"}}')
    return folder


@pytest.fixture
def device(phone):  # noqa: F811  (the fixture imported above)
    """A test device with a real adbd; see tests/android_bench/conftest.py."""
    return phone


@pytest.fixture(scope="session")
def chromium(tmp_path_factory) -> Iterator[browser.Browser]:
    with browser.started(tmp_path_factory.mktemp("profile")) as started:
        yield started

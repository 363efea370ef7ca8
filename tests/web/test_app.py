"""The page in a real browser, against LiteRT in Python and Pillow."""

import base64
import io
import json
import pathlib
import shutil
import urllib.parse

import numpy as np
import pytest
from PIL import Image

from fd_keras import imagenet, litert
from fd_keras.android_bench import results
from fd_keras.android_bench.models import read_model
from fd_keras.applications import build_by_name
from fd_keras.head import HEADS
from fd_keras.image_classifier import open_classifier, probabilities
from fd_keras.tflite import detector as tflite_detector
from fd_keras.tflite import export
from fd_keras.tflite.recipes import RECIPES
from fd_keras.web import browser_rows, folder, page_models
from tests import browser
from tests.random_detector import CLASSES, random_detector
from tests.random_detector import SIZE as DETECTOR_SIZE
from tests.web.camera_page import ERROR, SHOWN, choose, look
from tests.web.conftest import NAMES, SIZE, photo


@pytest.fixture
def tab(chromium) -> browser.Tab:
    return chromium.tab()


@pytest.fixture
def opened(tab, serve) -> browser.Tab:
    """A tab with the loaded page."""
    tab.open(serve().address)
    return tab


# --- photos ------------------------------------------------------------------------------------------------


def test_names_and_probabilities_equal_those_of_litert(opened, sources, tmp_path):
    photo(1, (320, 200)).save(tmp_path / "photo.png")
    cards = choose(opened, tmp_path / "photo.png")
    for source, lines in zip(sources, cards, strict=True):
        image = imagenet.load_image(tmp_path / "photo.png", SIZE)
        expected = open_classifier(str(source.path))(image[None])[0]
        order = np.argsort(-expected, kind="stable")
        assert [line.split("\n")[0] for line in lines] == [NAMES[i] for i in order]
        shown = [float(line.split("\n")[-1].rstrip("%")) for line in lines]
        np.testing.assert_allclose(shown, 100 * expected[order], atol=0.051)


def test_the_page_contacts_only_its_server_and_has_no_errors(opened, tmp_path):
    photo(2, (200, 200)).save(tmp_path / "photo.png")
    choose(opened, tmp_path / "photo.png")
    hosts = {urllib.parse.urlsplit(address).hostname for address in opened.requests if address != "about:blank"}
    assert hosts == {"127.0.0.1"}
    assert not [text for text in opened.messages if "Security Policy" in text or "Error:" in text]


def test_a_photo_can_be_dropped_or_pasted(opened, tmp_path):
    for event, field, number in (("DragEvent", "dataTransfer", 0), ("ClipboardEvent", "clipboardData", 2)):
        kind, file = {"DragEvent": "drop", "ClipboardEvent": "paste"}[event], io.BytesIO()
        photo(number, (150, 100)).save(file, "PNG")
        opened.run(
            f"""(() => {{
            const bytes = Uint8Array.from(atob("{base64.b64encode(file.getvalue()).decode()}"), c => c.charCodeAt(0));
            const files = new DataTransfer();
            files.items.add(new File([bytes], "a.png", {{ type: "image/png" }}));
            document.dispatchEvent(new {event}("{kind}", {{ {field}: files, bubbles: true, cancelable: true }}));
            }})()"""
        )
        opened.wait(f"{SHOWN}[0][0]?.startsWith({json.dumps(NAMES[number])})")


def test_a_file_that_is_not_an_image_is_refused(opened, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    opened.choose_file("#file", tmp_path / "notes.txt")
    opened.wait(f"!{ERROR}.hidden")
    expected = "notes.txt is not an image that this browser can decode. Try a JPEG or PNG file."
    assert opened.run(f"{ERROR}.textContent") == expected


def test_pixels_equal_those_of_pillow(tab, serve, page, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    pictures = {
        "large.png": photo(0, (1201, 799)),
        "tiny.png": photo(1, (3, 2)),
        "one pixel.png": photo(2, (1, 1)),
        "thin.png": photo(3, (4000, 20)),
        "gray.png": photo(4, (130, 77)).convert("L"),
        "palette.png": photo(5, (131, 77)).convert("P", palette=Image.Palette.ADAPTIVE),
        "photo.jpg": photo(6, (333, 500)),
        "turned.jpg": photo(7, (300, 200)),
    }
    for name, image in pictures.items():
        image.save(tmp_path / name, **({"exif": exif} if name == "turned.jpg" else {}))
    tab.open(serve().address)
    paths = [tmp_path / name for name in pictures]
    for path, (pixels, _) in zip(paths, look(tab, page, paths), strict=True):
        expected = imagenet.load_image(path, SIZE, upright=True)
        assert np.abs(pixels - expected).max() <= (1 if path.suffix == ".jpg" else 0), path.name


def test_gray_pixels_equal_those_of_pillow(opened):
    image = photo(3, (57, 91))
    rgba = np.asarray(image.convert("RGBA")).ravel().tolist()
    found = opened.run(
        f"""import("./resample.js").then(({{ resample }}) => {{
        const rgba = {rgba}, read = (x, y, w, h) => Uint8ClampedArray.from({{ length: w * h * 4 }}, (_, i) =>
          rgba[4 * ((y + Math.trunc((i >> 2) / w)) * 57 + x + ((i >> 2) % w)) + (i & 3)]);
        const size = {{ width: 20, height: 30 }};
        return [...resample({{ width: 57, height: 91, read }}, size, {{ left: 3, top: 4, width: 11, height: 12 }}, 1)];
        }})"""
    )
    expected = np.asarray(image.convert("L").resize((20, 30), Image.Resampling.BILINEAR))[4:16, 3:14]
    assert found == expected.ravel().tolist()


def test_pixels_and_scores_of_real_photos_equal_those_of_python(tab, serve, data, runtime_files, tmp_path):
    weights = str(data / "weights" / "0.25x-FDMobileNet-224.pth.tar")
    model = build_by_name("fd_mobilenet", alpha=0.25, weights=weights)
    source = {"arch": "fd_mobilenet", "alpha": 0.25}
    (path,) = export.write(model, "fd_mobilenet", source, [RECIPES["float32"]], str(tmp_path / "models"))
    folder.write(str(tmp_path / "page"), [page_models.describe(read_model(pathlib.Path(path)))], runtime_files)
    tab.open(serve(place=tmp_path / "page").address)
    photos = sorted((data / "imagenet" / "val").iterdir())[:50]
    images = np.stack([imagenet.load_image(photo, upright=True) for photo in photos])
    expected = open_classifier(path)(images)
    found = look(tab, tmp_path / "page", photos)
    for image, scores, (pixels, shown) in zip(images, expected, found, strict=True):
        assert np.abs(pixels - image).max() <= 1
        assert np.argmax(shown) == scores.argmax()
        np.testing.assert_allclose(shown, scores, atol=0.01)


# --- detectors ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> str:
    """The path of a .tflite file of a detector."""
    found = random_detector(np.asarray(photo(0, (500, 375))))
    return tflite_detector.write(found, DETECTOR_SIZE, "float32", "RUN", str(tmp_path_factory.mktemp("detector")))


def test_boxes_equal_those_of_the_detector_in_python(tab, serve, detector, runtime_files, tmp_path):
    folder.write(str(tmp_path / "page"), [page_models.describe(read_model(pathlib.Path(detector)))], runtime_files)
    picture = photo(0, (500, 375))
    picture.save(tmp_path / "photo.png")
    tab.open(serve(place=tmp_path / "page").address)
    ((pixels, boxes),) = look(tab, tmp_path / "page", [tmp_path / "photo.png"])
    expected_pixels, factors = tflite_detector.fit(np.asarray(picture), DETECTOR_SIZE)
    assert float(np.abs(pixels - expected_pixels).max()) <= 1  # the page rounds pixels twice
    runner = tflite_detector.TFLiteDetector(detector)
    expected, scores, labels = runner.run(pixels)
    assert len(boxes) == len(scores) > 3
    for box, corners, score, label in zip(boxes, expected / factors, scores, labels, strict=True):
        sides = [box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]]
        np.testing.assert_allclose(sides, np.clip(corners, 0, (500, 375, 500, 375)), atol=0.1)
        assert box["label"] == label
        assert box["score"] == pytest.approx(score, abs=1e-3)
    shown = choose(tab, tmp_path / "photo.png")[0]
    sure = [CLASSES[label] for label, score in zip(labels, scores, strict=True) if score >= 0.5][:5]
    assert [line.split("\n")[0] for line in shown] == (sure or ["nothing found"])


# --- camera ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_camera(tmp_path_factory):
    """A browser whose camera shows a video of one color."""
    place = tmp_path_factory.mktemp("camera")
    frame = io.BytesIO()
    photo(1, (320, 240)).save(frame, "JPEG", quality=95)
    (place / "film.mjpeg").write_bytes(frame.getvalue() * 10)
    film = f"--use-file-for-fake-video-capture={place / 'film.mjpeg'}"
    with browser.started(place / "profile", film) as started:
        yield started


def start_camera(tab: browser.Tab, frames: int = 3) -> None:
    tab.run("document.getElementById('camera').click()")
    tab.wait(f"Number(document.documentElement.dataset.frames) >= {frames}")


def test_camera_frames_are_classified_until_it_is_frozen_or_disconnected(with_camera, serve):
    tab = with_camera.tab()
    tab.open(serve().address)
    start_camera(tab)
    assert tab.run(SHOWN)[0][0].startswith(NAMES[1])
    assert tab.run("document.getElementById('rate').textContent").endswith("frames per second")
    tab.run("document.getElementById('freeze').click()")
    tab.run("new Promise(requestAnimationFrame).then(() => new Promise(requestAnimationFrame))")
    frames = tab.run("document.documentElement.dataset.frames")
    tab.run("new Promise((done) => setTimeout(done, 300))")
    assert int(tab.run("document.documentElement.dataset.frames")) <= int(frames) + 1
    tab.run("document.getElementById('video').srcObject.getTracks()[0].dispatchEvent(new Event('ended'))")
    assert tab.run(f"{ERROR}.textContent").startswith("The camera was disconnected.")
    assert tab.run("document.getElementById('camera').textContent") == "Start camera"


def test_a_frame_is_shared_as_a_png_with_its_results(with_camera, serve):
    tab = with_camera.tab()
    tab.open(serve().address)
    start_camera(tab)
    tab.run("document.getElementById('freeze').click()")
    tab.run(
        "navigator.canShare = () => true; navigator.share = async ({ files }) => {"
        "  const reader = new FileReader(); reader.onload = () => { window.shared = reader.result; };"
        "  reader.readAsDataURL(files[0]); }; document.getElementById('share').click()"
    )
    tab.wait("window.shared")
    shared = tab.run("window.shared").partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(shared))) as picture:
        assert picture.format == "PNG"
        assert picture.width >= 320
        assert picture.height > 240  # the class names are below the frame


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("NotAllowedError", "Camera access is blocked."),
        ("NotFoundError", "No camera found."),
        ("NotReadableError", "Another program is using the camera."),
    ],
)
def test_the_reason_why_a_camera_does_not_start_is_shown(opened, error, sentence):
    opened.run(f"navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('no', '{error}'); }}")
    opened.run("document.getElementById('camera').click()")
    opened.wait(f"!{ERROR}.hidden")
    assert opened.run(f"{ERROR}.textContent").startswith(sentence)


def test_tensors_of_1000_frames_are_freed(opened):
    deleted, before, after = opened.run(
        """(async () => {
        const core = await import("@litertjs/core"), { open } = await import("./model.js");
        const { noise } = await import("./measure.js");
        const settings = await (await fetch("models.json")).json();
        const model = await open(settings.models[0], settings, "wasm"), input = noise(model);
        let deleted = 0;
        const old = core.Tensor.prototype.delete;
        core.Tensor.prototype.delete = function () { deleted++; return old.call(this); };
        const heap = () => core.getGlobalLiteRt().liteRtWasm.HEAPU8.length;
        await model.run(input);
        const before = heap();
        for (let i = 0; i < 999; i++) await model.run(input);
        core.Tensor.prototype.delete = old;
        return [deleted, before, heap()];
        })()"""
    )
    assert deleted == 2000
    assert after == before


# --- models that do not run --------------------------------------------------------------------------------


def test_a_broken_model_is_named_and_the_other_one_runs(tab, serve, page, models, tmp_path):
    broken = tmp_path / "page"
    shutil.copytree(page, broken)
    (broken / models[0].address).write_bytes(b"no model at all")
    tab.open(serve(place=broken).address)
    assert tab.run(f"{ERROR}.textContent").startswith("colors_float32 cannot run in this browser")
    photo(0, (99, 99)).save(tmp_path / "photo.png")
    (lines,) = choose(tab, tmp_path / "photo.png")
    assert lines[0].startswith(NAMES[0])


def test_a_model_of_another_shape_is_named(tab, serve, page, tmp_path):
    shutil.copytree(page, tmp_path / "page")
    path = tmp_path / "page" / "models.json"
    facts = json.loads(path.read_text())
    facts["models"][0]["input"]["shape"] = [1, 32, 32, 3]
    path.write_text(json.dumps(facts))
    tab.open(serve(place=tmp_path / "page").address)
    assert "its input has shape 1,64,96,3, but models.json has 1,32,32,3" in tab.run(f"{ERROR}.textContent")


# --- measuring ---------------------------------------------------------------------------------------------


def measure(tab: browser.Tab) -> str:
    tab.run("document.getElementById('runs').value = 20; document.getElementById('measure').click()")
    tab.wait(f"document.getElementById('measure-note').textContent.includes('rounds') || !{ERROR}.hidden")
    return tab.run("document.getElementById('measure-note').textContent")


def test_timings_go_to_the_results_folder(tab, serve, sources, tmp_path):
    tab.open(serve(lambda sent: browser_rows.save(sent, sources, str(tmp_path / "results"))).address)
    assert "Stored: 20 rows" in measure(tab)
    assert tab.run("document.querySelectorAll('#timings tbody tr').length") == 2
    rows = results.read_rows(tmp_path / "results")
    assert {(row.origin.target, row.origin.machine, row.label) for row in rows} == {
        ("browser", "browser", "colors_float32"),
        ("browser", "browser", "colors_int8"),
    }
    assert "in a browser: not comparable with apps" in (tmp_path / "results" / "report.html").read_text()


def test_a_photo_dropped_during_a_measurement_is_classified_afterwards(tab, serve):
    tab.open(serve().address.partition("#")[0])
    waited = tab.run(
        """(async () => {
        const note = document.getElementById("measure-note"), spoken = document.getElementById("spoken");
        const dropped = new DataTransfer(), canvas = new OffscreenCanvas(99, 99);
        canvas.getContext("2d");
        dropped.items.add(new File([await canvas.convertToBlob()], "black.png", { type: "image/png" }));
        document.getElementById("runs").value = 10000;
        document.getElementById("measure").click();
        document.dispatchEvent(new DragEvent("drop", { dataTransfer: dropped }));
        return new Promise((done) => new MutationObserver(() => {
          if (note.textContent.includes("rounds")) done(!spoken.textContent);
        }).observe(note, { childList: true }));
        })()"""
    )
    assert waited
    tab.wait("document.getElementById('spoken').textContent")


def test_without_the_program_timings_are_shown_but_not_stored(tab, serve):
    tab.open(serve().address.partition("#")[0])
    assert "stored" not in measure(tab).lower()


# --- the page ----------------------------------------------------------------------------------------------


def test_the_page_works_without_its_server(tab, serve, tmp_path):
    server = serve()
    tab.open(server.address)
    tab.wait("document.getElementById('offline').textContent")
    assert tab.run("document.getElementById('offline').textContent") == "This page works offline now."
    server.shutdown()
    server.server_close()
    tab.open(server.address)
    photo(3, (99, 99)).save(tmp_path / "photo.png")
    assert choose(tab, tmp_path / "photo.png")[0][0].startswith(NAMES[3])


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_its_window_and_has_the_color_scheme(opened, tmp_path, width, dark):
    photo(3, (640, 480)).save(tmp_path / "photo.png")
    choose(opened, tmp_path / "photo.png")
    measure(opened)
    opened.show(width, 800, dark)
    assert opened.run("document.documentElement.scrollWidth") <= width
    color = opened.run("getComputedStyle(document.body).color")
    assert (int(color.split("(")[1].split(",")[0]) > 128) == dark


def test_all_controls_are_accessible_by_keyboard_and_have_names(opened):
    opened.run("document.body.focus()")
    reached = set()
    for _ in range(12):
        for kind in ("keyDown", "keyUp"):
            opened.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.add(opened.run("document.activeElement.id || document.activeElement.tagName"))
    assert reached >= {"camera", "file", "runs", "measure", "INPUT", "SUMMARY"}
    nodes = opened.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "checkbox", "spinbutton", "image")
    unnamed = [
        node["role"]["value"]
        for node in nodes
        if node.get("role", {}).get("value") in roles and not node["ignored"] and not node["name"]["value"]
    ]
    assert not unnamed


def test_inputs_are_normalized_and_quantized_as_in_python(opened):
    details = {"dtype": np.uint8, "quantization": (0.02, 114)}
    rescaling = imagenet.rescaling()
    levels = np.arange(256, dtype="float32")[:, None].repeat(3, axis=1)
    expected = litert.quantize(imagenet.preprocess_input(levels, False), details)
    facts = {
        **{"kind": "classifier", "rescaling": rescaling},
        "input": {"shape": [1, 256, 1, 3], "dtype": "uint8", "scale": 0.02, "zero_point": 114},
    }
    found = opened.run(
        f"import('./model.js').then(({{ inputTables }}) => inputTables({json.dumps(facts)}).map(t => [...t]))"
    )
    difference = np.abs(np.array(found).T - expected.astype(int))
    assert difference.max() <= 1
    assert difference.mean() < 0.01  # JavaScript rounds halves up, NumPy rounds them to even


@pytest.mark.parametrize(
    ("scores", "head"),
    [
        ([0.3], "scores"),
        ([0.7, 0.3], "classes"),
        ([0.7, 0.3], "logits"),
        ([4, -2, 0.5], "values"),
        ([-0.1, 0], "values"),
    ],
)
def test_outputs_are_converted_to_probabilities_as_in_python(opened, scores, head):
    expected = probabilities(np.array([scores], "float32"), HEADS[head])
    call = f"[...probabilities(Float32Array.from({scores}), '{head}')]"
    found = opened.run(f"import('./model.js').then(({{ probabilities }}) => {call})")
    np.testing.assert_allclose(found, expected[0], rtol=1e-5)

import dataclasses
import os

import numpy as np
import pytest
from PIL import Image

from fd_keras.training.finetune import page
from fd_keras.training.finetune.results import Candidate
from tests.page_probe import check_fits, check_stands_alone
from tests.training.finetune.made_results import answers, results_of

HOSTILE = [
    "<script>alert(1)</script>",
    "a very long name " * 9,
    "אבג \u202eevil",
    "line\nbreak",
    "x" * 99,
    "\udcff\"'&",
]


def noisy_photos(folder, count: int) -> list[str]:
    """Photos of noise, which JPEG cannot compress well."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 150, 200, 3)).astype("uint8")
    paths = [str(folder / f"{i}.png") for i in range(count)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Pages with few, many and hostile class names."""
    folder = tmp_path_factory.mktemp("pages")
    paths = noisy_photos(folder, 40)
    few = answers([0, 1] * 20, 2, paths, lean=0.0)
    page.write(str(folder / "few.html"), results_of(["heron", "stork"], few, warnings=["Only 40 photos measure."]))
    page.write(str(folder / "matrix.html"), results_of([f"a kind of bird {i}" for i in range(30)]))
    page.write(str(folder / "pairs.html"), results_of([f"bird {i}" for i in range(40)]))
    others = {"notes": HOSTILE, "warnings": HOSTILE, "photos": HOSTILE[0], "settings": dict.fromkeys(HOSTILE, "<b>")}
    page.write(str(folder / "hostile.html"), results_of(HOSTILE, command="fd-keras <b>", **others))
    return folder


@pytest.mark.parametrize("name", ["few", "matrix", "pairs", "hostile"])
def test_a_page_is_self_contained_and_small(written, name):
    path = written / f"{name}.html"
    check_stands_alone(path.read_text("utf-8"))
    assert path.stat().st_size < 400_000
    assert not [other for other in os.listdir(written) if other.startswith(".writing-")]


@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_pages_without_overflow(written, tmp_path, dark):
    check_fits(
        tmp_path, [written / f"{name}.html" for name in ("few", "matrix", "pairs", "hostile")], [360, 1280], dark
    )


def test_the_page_has_all_sections_in_order(written):
    found = check_stands_alone((written / "few.html").read_text("utf-8"))
    text = " ".join("".join(found.texts["body"]).split())
    expected = (
        "FD-MobileNet 0.25x for 2 classes", "Top-1", "95% interval", "on 40 held-out photos",
        "a linear head reaches", "always predicting the most frequent class, stork, 50.0%",
        "Only 40 photos measure.", "net_int8.tflite", "195 kB", "298.0 KiB", "97.5%", "1.23 ms", "245,678 parameters",
        "precision", "recall", "true ↓ predicted →", "Most confident mistakes", "Least certain",
        "3 photos are there twice.", "fine-tuned, kept", "The files were trained on all photos.", "600",
        "fd-keras finetune photos --output_dir=mine", "3.15.0", "Time it on a phone", "fd-keras bench --models=mine",
        "Python with LiteRT", "Python with Keras", "Kotlin with LiteRT", "Kotlin with MediaPipe", "C++ with LiteRT",
        "Microcontroller",
    )  # fmt: skip
    for words in expected:
        before, found_words, text = text.partition(words)
        assert found_words, f"{words!r} does not come after what comes before it; there is {before!r}"
    assert len(found.images) == 24
    assert all(image["alt"].startswith("photo of ") for image in found.images)


def test_hostile_names_are_escaped(written):
    text = (written / "hostile.html").read_text("utf-8")
    assert "<script" not in text
    assert "\u202e" not in text
    assert "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi>" in text
    assert "line\\nbreak" in text
    assert "fd-keras &lt;b&gt;" in text


def headline(results) -> str:
    return check_stands_alone(page.html(results)).texts["p"][1]


def test_the_headline_names_the_other_candidate():
    results = results_of(["a", "b", "c"])
    head, tuned = results.candidates
    assert "a linear head reaches" in headline(results)
    kept = [dataclasses.replace(head, chosen=True), dataclasses.replace(tuned, chosen=False)]
    assert "this is a linear head, fine-tuned reaches" in headline(dataclasses.replace(results, candidates=kept))
    assert "this is a linear head; always predicting" in headline(dataclasses.replace(results, candidates=kept[:1]))
    rule = "kept unless another candidate recognizes more"
    shown = [rule in page.html(dataclasses.replace(results, candidates=these)) for these in (kept, kept[:1])]
    assert shown == [True, False]
    assert rule not in page.html(results)
    scratch = [Candidate("from scratch", tuned.measured, True)]
    assert "linear" not in headline(dataclasses.replace(results, candidates=scratch))


def test_candidates_are_compared_on_the_same_photos():
    """If the kept head was measured by cross-validation, the table still has its accuracy on the held-out photos."""
    results = results_of(["a", "b", "c"])
    head, tuned = results.candidates
    more = answers([0, 1, 2] * 20, 3, lean=1.0)
    kept = dataclasses.replace(head, measured=more, compared=head.measured, chosen=True)
    shown = dataclasses.replace(results, candidates=[kept, dataclasses.replace(tuned, chosen=False)])
    rows = page.html(shown).split("Candidates on 12 held-out photos")[1].split("</table>")[0]
    for candidate in (head, tuned):
        assert f"{100 * candidate.measured.top1:.1f}%" in rows
    assert f"where the linear head has {100 * head.measured.top1:.1f}%" in headline(shown)


def test_each_candidate_is_explained():
    text = page.html(results_of(["a", "b"]))
    assert "Linear head: the pretrained network as it is" in text
    assert "Fine-tuned: all layers are trained on your photos" in text
    assert "from random weights" not in text


def test_top5_and_accuracies_of_files_are_shown_if_known():
    few, many = (results_of([f"class {i}" for i in range(count)]) for count in (10, 11))
    assert "top-5" not in page.html(few)
    assert "top-5" in page.html(many)
    assert "top-1 on held-out photos" not in page.html(few)
    known = [dataclasses.replace(file, top1=0.875) for file in few.files]
    assert "87.5%" in page.html(dataclasses.replace(few, files=known))


def test_a_page_without_files_is_valid():
    found = check_stands_alone(page.html(results_of(["a", "b"], files=[])))
    assert "Python with LiteRT" not in found.texts["summary"]

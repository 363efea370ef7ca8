import dataclasses
import os
import shlex

import pytest

from fd_keras.applications import build_by_name
from fd_keras.cost import profile
from fd_keras.tflite import finetune_results
from fd_keras.training.finetune.candidates import FinetuneNetwork
from fd_keras.training.finetune.finetuning import Finetuned
from fd_keras.training.finetune.preparation import Prepared
from fd_keras.training.finetune.results import Candidate
from fd_keras.training.finetune.split import Split
from tests.training.finetune.made_results import answers, file_facts

CLASSES = ("ant", "bee")
HELD_OUT = (("my photos/b 1.jpg", 1), ("mine/photos/copy.jpg", 0))


@pytest.fixture(scope="module")
def results():
    network = FinetuneNetwork("fd_mobilenet", 0.25, 32, CLASSES, None)
    model = build_by_name("fd_mobilenet", alpha=0.25, weights=None, classes=2, input_shape=(32, 32, 3))
    split = Split(CLASSES, (("a/1.jpg", 0), ("a/2.jpg", 0), ("b/3.jpg", 1)), HELD_OUT)
    originals = {path: path for path, _ in (*split.train, *HELD_OUT)} | {"mine/photos/copy.jpg": "my photos/big.jpg"}
    measured = answers([1, 0], 2, [path for path, _ in HELD_OUT])
    found = Finetuned(
        model, [Candidate("linear head", measured, False), Candidate("fine-tuned", measured, True)],
        "on 2 photos", "It was.", False, ["Few photos."], {"epochs": "3"},
    )  # fmt: skip
    files = [file_facts("my out/net_float32.tflite", "float32"), file_facts("my out/net_int8.tflite", "int8")]
    prepared = Prepared(split, originals, False, ("A note.",))
    return finetune_results.gather(network, "my photos", "my out", prepared, found, "my out/net.keras", files), model


def test_everything_that_the_page_shows_is_there(results):
    found, model = results
    assert [dataclasses.astuple(count) for count in found.counts] == [("ant", 2, 1), ("bee", 1, 1)]
    assert (found.network, found.image_size, found.name) == ("FD-MobileNet 0.25x", 32, "fd_mobilenet_0.25_32")
    assert found.macs == profile(model).macs
    assert found.parameters == sum(weight.numpy().size for weight in model.trainable_weights)
    assert found.notes == ("A note.",)


def test_photos_have_the_paths_of_the_user_s_files(results):
    for candidate in results[0].candidates:
        assert candidate.measured.paths == ["my photos/b 1.jpg", "my photos/big.jpg"]


def test_files_that_disagree_get_a_warning(results):
    assert results[0].warnings[0] == "Few photos."
    assert len(results[0].warnings) == 3  # both files agree on 97.5%
    assert "net_int8.tflite predicts another class than the Keras model on 2.5%" in results[0].warnings[2]


def test_commands_have_the_real_paths_quoted(results):
    commands = [shlex.split(command) for _, command in results[0].next_commands]
    verbs = ["classify", "page", "bench", "export-mcu", "verify"]
    assert [verb in words for verb, words in zip(verbs, commands, strict=True)] == [True] * len(verbs)
    assert commands[0][-1] == "my photos/b 1.jpg"
    assert "--model=my out/net_int8.tflite" in commands[0]
    assert "--tflite=my out/net_float32.tflite,my out/net_int8.tflite" in commands[4]


def test_the_closing_lines_end_on_the_next_command(results):
    lines = finetune_results.closing(results[0], "my out/net.md").splitlines()
    assert lines[-1] == f"next: {results[0].next_commands[0][1]}"
    assert lines[1].startswith("done: fine-tuned, top-1 ")
    assert f"  report   {os.path.abspath('my out')}/report.html" in lines
    assert sum(line.startswith("warning: ") for line in lines) == 3
    assert any("195 kB, 298.0 KiB of RAM, 1.23 ms here, the same class as Keras on 97.5%" in line for line in lines)


def test_a_finished_run_is_described_from_its_record(results):
    summary = finetune_results.summary(results[0])
    assert summary["kept"] == "fine-tuned"
    assert summary["candidates"].keys() == {"linear head", "fine-tuned"}
    text = finetune_results.already_done("my out", "my photos", summary)
    assert text.startswith(f"my out is finished: fine-tuned, top-1 {100 * summary['top1']:.1f}% on 2 photos.")
    assert text.splitlines()[1] == f"  report   {os.path.abspath('my out')}/report.html"
    assert text.splitlines()[-1] == finetune_results.closing(results[0], "my out/net.md").splitlines()[-1]
    moved = finetune_results.already_done("moved", "other", summary).splitlines()[-1]
    assert moved.endswith("classify --model=moved/net_int8.tflite --upright 'other/b 1.jpg'")

import pytest

from fd_keras.training.voc import detector_reporting
from fd_keras.training.voc.trainable_detector import TrainableDetector
from tests import needs

ROWS = [
    {"epoch": n, "step": 6 * n, "lr": 0.001, "loss": 1.5, "rpn_objectness": 0.5, "rpn_box": 0.25, "class": 0.5,
     "box": 0.25, "seconds_per_image": 0.5, "input_bound": 0.0, "seconds": 3.0}
    for n in (1, 2, 3)
]  # fmt: skip


def test_lines():
    line = detector_reporting.step_line("3/15", 120, 5011, 0.81, 1.234, left=12_000)
    assert line.endswith("120/5011 images  0.81 s/image  loss 1.234  3 h 20 min left")
    line = detector_reporting.epoch_line(ROWS[0], 15)
    losses = "loss 1.500 (proposals 0.500 + 0.250, RoIs 0.500 + 0.250)"
    assert line == f"epoch 1/15  {losses}  rate 0.001  0.50 s/image"


def test_retinanet_losses_are_formatted():
    losses = {"loss": 1.5, "class": 1.0, "box": 0.5}
    assert detector_reporting.described(losses) == "loss 1.500 (anchors 1.000 + 0.500)"


@pytest.mark.parametrize(
    ("trained_on", "splits", "command"),
    [
        ("trainval", ["test", "val"], "detect evaluate --voc_dir={folder} --split=test"),
        ("train", ["val"], "detect evaluate --voc_dir={folder} --split=val"),
        ("trainval", ["val"], "detect convert"),
        ("trainval", ["secret"], "detect convert"),
    ],
)
def test_the_next_command_uses_a_split_that_was_not_trained_on(devkit, trained_on, splits, command):
    devkit.add("a")
    for split in splits:
        devkit.split("test" if split == "secret" else split, "unknown" if split == "secret" else "a")
    line = detector_reporting.next_command(str(devkit), trained_on, "run")
    assert f" {command.format(folder=devkit)} --" in line
    assert "--run_dir=run" in line


def test_the_columns_are_those_of_a_row():
    assert set(detector_reporting.columns(TrainableDetector.LOSSES)) == set(ROWS[0])


def test_the_losses_are_drawn(tmp_path):
    needs.package("matplotlib")
    detector_reporting.plot(str(tmp_path / "curves.png"), "a detector", ROWS)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")

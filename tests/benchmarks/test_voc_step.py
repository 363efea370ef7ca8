import tensorflow as tf

from benchmarks import voc_step
from fd_keras.training.voc import backbone, detection_pipeline, faster_rcnn
from fd_keras.training.voc.detector_recipe import DetectorRecipe

SMALL = DetectorRecipe(short_side=64, long_side=96, roi_size=4, anchor_size=16, rpn_channels=8, test_proposals=20)


def test_all_parts_run():
    net = faster_rcnn.build_net(backbone.choose("fd_mobilenet", 0.25), voc_step.CLASSES, SMALL)
    example = detection_pipeline.Example(
        tf.zeros((64, 80, 3)), tf.constant(1.0), tf.constant([[8.0, 8, 40, 50]]), tf.constant([2], tf.int64)
    )
    blocks = voc_step.parts(faster_rcnn.FasterRCNN(net, SMALL), example)
    assert list(blocks) == ["training", "test", "gathers"]
    results = {part: call() for calls in blocks.values() for part, call in calls.items()}
    assert results["gradients and update"].shape == (5,)
    for found in (results["RoIs and suppression"], results["test"]):
        assert len(found) == 4


def test_the_ratio_of_both_implementations_is_shown(capsys):
    blocks = {
        "training": ["features and anchors"],
        "test": ["proposals", "RoIs and suppression"],
        "gathers": ["test"],
    }
    times = {(block, part): [1.0, 1.0, 1.0] for block, found in blocks.items() for part in found}
    voc_step.show(times | {("test", "RoIs and suppression"): [2.0, 1.5, 3.0], ("gathers", "test"): [4.0, 3.0, 6.0]})
    shown = capsys.readouterr().out
    assert "RoIs and suppression      1.000  total  2.000" in shown
    assert "time of a test relative to gathers: 0.50 (0.50-0.50)" in shown

import pytest


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        ([], 2, "--voc_dir is required"),
        (["--voc_dir=VOC", "--short_side=2000"], 1, "--long_side=1000: must be at least --short_side=2000"),
        (["--voc_dir=VOC"], 1, "error: VOC: no such folder"),
        (["--voc_dir=VOC", "--backbone=vgg"], 2, "--backbone"),
        (["--voc_dir=VOC", "--side=96"], 2, "--side is not a setting of --detector=faster_rcnn"),
        (["--voc_dir=VOC", "--detector=retinanet", "--roi_size=7"], 2, "--roi_size is not a setting of --detector"),
        (["--voc_dir=VOC", "--detector=retinanet", "--side=100"], 1, "--side=100: must be a multiple of 32"),
    ],
)
def test_invalid_flags_are_reported_on_one_line(programs, tmp_path, flags, status, message):
    result = programs.run("fd_keras.training.voc.train", ["--run_dir=run", *flags], tmp_path)
    assert result.returncode == status
    assert message in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")

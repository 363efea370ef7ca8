import json
import os

import numpy as np
from PIL import Image

from fd_keras.training.voc import evaluation_files
from tests.training.voc.found import EVALUATED


def test_all_files_are_written(evaluation, tmp_path):
    evaluation_files.write(evaluation, str(tmp_path / "out"))
    names = {f"comp4_det_val_{name}.txt" for name in EVALUATED} | {
        evaluation_files.RESULTS,
        evaluation_files.REPORT,
        evaluation_files.CURVES,
    }
    assert set(os.listdir(tmp_path / "out")) == names
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["map11"] == evaluation.result.map11
    assert results["paper_map11"] == 0.451
    assert results["classes"][2] == {
        "name": "hard <hat>", "objects": 0, "found": 0, "false": 1, "ap11": None, "ap_area": None,
        "ap_coco": None, "paper_ap11": None,
    }  # fmt: skip
    image = Image.open(tmp_path / "out" / "curves.png")
    assert image.width > 600
    assert np.asarray(image.convert("L")).std() > 5

import pytest

from fd_keras import zoo
from tests import needs

for module in ("ncnn", "onnx", "onnxruntime"):
    needs.package(module)
from benchmarks import runtimes  # noqa: E402  (imports the packages that are needed above)


@pytest.mark.parametrize("arch", zoo.ARCHS)
def test_all_runtimes_give_the_scores_of_keras(arch, tmp_path, monkeypatch):
    monkeypatch.setattr(runtimes, "SIZE", 64)
    runs = runtimes.prepare(arch, 0.25, tmp_path)  # raises if the scores differ
    assert list(runs) == list(runtimes.RUNTIMES)

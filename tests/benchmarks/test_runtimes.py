import pytest

from fd_keras import zoo

for package in ("ncnn", "onnx", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install -e '.[runtimes]'")
from benchmarks import runtimes  # noqa: E402  (imports what the line above asks for)


@pytest.mark.parametrize("arch", zoo.ARCHS)
def test_all_runtimes_give_keras_s_scores(arch, tmp_path, monkeypatch):
    monkeypatch.setattr(runtimes, "SIZE", 64)
    runs = runtimes.prepare(arch, 0.25, tmp_path)  # raises where they do not
    assert list(runs) == list(runtimes.RUNTIMES)

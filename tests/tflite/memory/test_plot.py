import pytest
from PIL import Image

from fd_keras.tflite.format.flatbuffer import read
from fd_keras.tflite.memory.arena import plan
from fd_keras.tflite.memory.plot import arena_plot


@pytest.fixture(scope="module")
def whole(convert_tiny):
    return plan(read(convert_tiny("int8")).network)


def test_every_kind_of_tensor_has_its_color(whole, tmp_path):
    arena_plot(str(tmp_path / "arena.png"), whole)
    with Image.open(tmp_path / "arena.png") as picture:
        colors = picture.convert("RGB").getcolors(picture.width * picture.height) or []
    found = {color for count, color in colors if count > 2000}
    assert {(140, 140, 140), (224, 138, 44), (59, 111, 182)} <= found  # input, copies, convolution
    assert [path.name for path in tmp_path.iterdir()] == ["arena.png"]


def test_ops_and_the_arena_are_named(whole, tmp_path):
    arena_plot(str(tmp_path / "arena.svg"), whole)
    text = (tmp_path / "arena.svg").read_text()
    assert f"arena: {whole.arena / 1024:.1f} KiB" in text
    for name in ("conv", "mean", "fully connected", "softmax"):
        assert f"<!-- {name} -->" in text


def test_many_ops_are_numbered(whole, tmp_path, monkeypatch):
    from fd_keras.tflite.memory import plot

    monkeypatch.setattr(plot, "_MOST_NAMES", 3)
    arena_plot(str(tmp_path / "arena.svg"), whole)
    text = (tmp_path / "arena.svg").read_text()
    assert "<!-- number of the op -->" in text
    assert "<!-- softmax -->" not in text

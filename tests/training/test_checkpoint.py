import keras
import numpy as np
import pytest

from fd_keras.training import checkpoint


def _variables(value=0.0):
    return [
        keras.Variable(np.full((2, 3), value, "float32"), name="kernel"),
        keras.Variable(7, dtype="int32", name="n"),
    ]


def test_round_trip_keeps_bits_and_the_last_few(tmp_path):
    for step in (1, 2, 30):
        checkpoint.save(str(tmp_path), step, _variables(step / 3), {"history": [step]}, keep=2)
    assert [path[-13:] for path in checkpoint.saved(str(tmp_path))] == ["000000002.npz", "000000030.npz"]
    restored = _variables()
    assert checkpoint.restore(str(tmp_path), restored, print) == {"history": [30]}
    assert np.asarray(restored[0]).tobytes() == np.full((2, 3), 10, "float32").tobytes()


def test_no_checkpoint_is_none(tmp_path):
    assert checkpoint.restore(str(tmp_path / "nothing"), _variables(), print) is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, damage):
    checkpoint.save(str(tmp_path), 1, _variables(1.0), {}, keep=3)
    path = checkpoint.save(str(tmp_path), 2, _variables(2.0), {}, keep=3)
    with open(path, "rb") as file:
        data = bytearray(file.read())
    data[len(data) // 6] ^= 255
    with open(path, "wb") as file:
        file.write({"cut": data[: len(data) // 2], "flipped": data, "empty": b"", "text": b"hello"}[damage])
    warnings, restored = [], _variables()
    assert checkpoint.restore(str(tmp_path), restored, warnings.append) == {}
    assert float(restored[0][0, 0]) == 1.0
    assert len(warnings) == 1
    assert path in warnings[0]


def test_pickled_objects_are_refused(tmp_path):
    path = tmp_path / "step_000000001.npz"
    np.savez(path, evil=np.array([{"a": 1}], dtype=object))
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        checkpoint.read(str(path))


def test_checkpoint_of_another_network_is_refused(tmp_path):
    checkpoint.save(str(tmp_path), 1, _variables(), {}, keep=1)
    other = [keras.Variable(np.zeros((4, 3), "float32"), name="kernel"), _variables()[1]]
    with pytest.raises(checkpoint.CheckpointError, match="'kernel' does not fit"):
        checkpoint.restore(str(tmp_path), other, print)

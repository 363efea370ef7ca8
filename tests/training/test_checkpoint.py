import json
import pathlib
import random
import time

import keras
import numpy as np
import pytest

from fd_keras.training import checkpoint
from tests.damage import damage_bytes


def _variables(value=0.0):
    return [
        keras.Variable(np.full((2, 3), value, "float32"), name="kernel"),
        keras.Variable(7, dtype="int32", name="n"),
    ]


def test_a_round_trip_keeps_all_bits_and_the_last_checkpoints(tmp_path):
    for step in (1, 2, 30):
        checkpoint.save(str(tmp_path), step, _variables(step / 3), {"history": [step]}, keep=2)
    assert [path[-13:] for path in checkpoint.saved(str(tmp_path))] == ["000000002.npz", "000000030.npz"]
    restored = _variables()
    assert checkpoint.restore(str(tmp_path), restored, print) == {"history": [30]}
    assert np.asarray(restored[0]).tobytes() == np.full((2, 3), 10, "float32").tobytes()


def test_without_a_checkpoint_nothing_is_restored(tmp_path):
    assert checkpoint.restore(str(tmp_path / "nothing"), _variables(), print) is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_checkpoint_is_skipped(tmp_path, damage):
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


def rewritten(path: str, change) -> None:
    """Rewrites a checkpoint with changed arrays."""
    with np.load(path) as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez(path, **arrays)


def meta_of(content) -> np.ndarray:
    return np.frombuffer(json.dumps(content).encode(), "uint8")


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.update({"0000/kernel": np.full((2, 3), np.nan, "float32")}),
        lambda arrays: arrays.update({"meta.json": meta_of([])}),
        lambda arrays: arrays.update({"meta.json": np.zeros(3, "uint8")}),
        lambda arrays: arrays.pop("meta.json"),
    ],
    ids=["not finite", "meta is a list", "meta is no JSON", "no meta"],
)
def test_a_checkpoint_with_invalid_content_is_skipped(tmp_path, change):
    checkpoint.save(str(tmp_path), 1, _variables(1.0), {"good": 1}, keep=3)
    rewritten(checkpoint.save(str(tmp_path), 2, _variables(2.0), {}, keep=3), change)
    warnings, restored = [], _variables()
    assert checkpoint.restore(str(tmp_path), restored, warnings.append) == {"good": 1}
    assert float(restored[0][0, 0]) == 1.0
    assert len(warnings) == 1


@pytest.mark.parametrize("offset", [4, 6, 8, 10, 12, 20, 24, 28, 42])  # version, flags, method, times, sizes, position
def test_a_checkpoint_with_a_damaged_zip_header_is_skipped(tmp_path, offset):
    checkpoint.save(str(tmp_path), 1, _variables(1.0), {}, keep=3)
    path = pathlib.Path(checkpoint.save(str(tmp_path), 2, _variables(2.0), {}, keep=3))
    whole = path.read_bytes()
    for bit in range(8):
        data = bytearray(whole)
        data[data.find(b"PK\x01\x02") + offset] ^= 1 << bit
        path.write_bytes(data)
        restored = _variables()
        assert checkpoint.restore(str(tmp_path), restored, lambda line: None) == {}
        assert float(restored[0][0, 0]) in (1.0, 2.0)  # some flips, such as of the time, are harmless


def test_damaged_values_are_never_restored(tmp_path, reliability_seconds):
    checkpoint.save(str(tmp_path), 1, _variables(1.0), {"step": 1}, keep=3)
    path = pathlib.Path(checkpoint.save(str(tmp_path), 2, _variables(2.0), {"step": 2}, keep=3))
    whole, seed, end = path.read_bytes(), 0, time.monotonic() + reliability_seconds
    while seed < 500 or time.monotonic() < end:
        path.write_bytes(damage_bytes(random.Random(seed), whole))
        restored, seed = _variables(), seed + 1
        meta = checkpoint.restore(str(tmp_path), restored, lambda line: None)
        assert meta in ({"step": 1}, {"step": 2})  # unused bytes, such as of the time, may be damaged
        assert np.asarray(restored[0]).tolist() == np.full((2, 3), float(meta["step"])).tolist(), seed
        assert int(restored[1].numpy()) == 7, seed


def test_a_compressed_checkpoint_is_rejected_before_decompression(tmp_path):
    path = tmp_path / "step_000000001.npz"
    np.savez_compressed(path, **{"0000/kernel": np.zeros(10_000_000, "uint8"), "meta.json": meta_of({})})
    with pytest.raises(checkpoint.CheckpointError, match=r"damaged \(0000/kernel.npy is compressed\)"):
        checkpoint.read(str(path))


@pytest.mark.parametrize("dtype", ["float64", "complex64", "int8", "U4"])
def test_an_array_of_another_type_is_rejected_before_assignment(tmp_path, dtype):
    path = checkpoint.save(str(tmp_path), 1, _variables(5.0), {}, keep=1)
    rewritten(path, lambda arrays: arrays.update({"0001/n": np.asarray(7).astype(dtype)}))
    restored = _variables()
    with pytest.raises(checkpoint.CheckpointError, match="'n' does not fit"):
        checkpoint.restore(str(tmp_path), restored, print)
    assert float(restored[0][0, 0]) == 0.0


def test_pickled_objects_are_rejected(tmp_path):
    path = tmp_path / "step_000000001.npz"
    np.savez(path, evil=np.array([{"a": 1}], dtype=object))
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        checkpoint.read(str(path))


def test_a_checkpoint_of_another_network_is_rejected(tmp_path):
    checkpoint.save(str(tmp_path), 1, _variables(), {}, keep=1)
    other = [keras.Variable(np.zeros((4, 3), "float32"), name="kernel"), _variables()[1]]
    with pytest.raises(checkpoint.CheckpointError, match="'kernel' does not fit"):
        checkpoint.restore(str(tmp_path), other, print)

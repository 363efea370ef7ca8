import numpy as np
import pytest

from fd_keras import google_mobilenet
from fd_keras.checkpoints import CheckpointError
from fd_keras.spec import lower

ALPHA, CLASSES = 0.25, 5


def tensors(ops) -> dict[str, np.ndarray]:
    """Random weights with the names and layout of Google's file."""
    rng = np.random.default_rng(0)
    found = {}
    for op in ops:
        if op.kind == "dense":
            found["MobilenetV1/Logits/Conv2d_1c_1x1/weights"] = rng.normal(size=(CLASSES + 1, 1, 1, op.cin))
            found["MobilenetV1/Logits/Conv2d_1c_1x1/Conv2D_bias"] = rng.normal(size=CLASSES + 1)
        elif op.kernel_shape:
            kernel, bias = google_mobilenet._keys(op)
            scale = 10 ** rng.uniform(-2, 1.5)
            found[f"MobilenetV1/MobilenetV1/{kernel}"] = scale * rng.normal(size=op.kernel_shape).transpose(3, 0, 1, 2)
            found[f"MobilenetV1/MobilenetV1/{bias}"] = rng.normal(size=op.cout)
    return {name: array.astype("float32") for name, array in found.items()}


@pytest.fixture(scope="module")
def ops():
    return lower(google_mobilenet.ARCH, ALPHA, (64, 64), classes=CLASSES)


@pytest.fixture
def file(ops, tmp_path, monkeypatch):
    """The path of a fake file of this network; the function that reads it is replaced."""
    path = tmp_path / "google.tflite"
    path.write_bytes(b"")
    monkeypatch.setattr(google_mobilenet, "read_weights", lambda path: tensors(ops))
    return str(path)


def test_each_layer_matches_the_file_with_normalized_kernels(file, ops):
    weights, state = google_mobilenet.read(file, ops), tensors(ops)
    for op in (op for op in ops if op.batch_norm):
        key, bias = (f"MobilenetV1/MobilenetV1/{name}" for name in google_mobilenet._keys(op))
        (kernel,), (gamma, beta, mean, variance) = weights[op.name], weights[f"{op.name}_bn"]
        factor = gamma / np.sqrt(variance + google_mobilenet.ARCH.bn_epsilon)
        folded = kernel * (factor[:, None] if op.kind == "depthwise" else factor)
        np.testing.assert_allclose(folded, state[key].transpose(1, 2, 3, 0), rtol=1e-5)
        np.testing.assert_allclose(beta - mean * factor, state[bias], rtol=1e-6)
        norms = np.sqrt(np.square(kernel).sum(axis=(0, 1) if op.kind == "depthwise" else (0, 1, 2)))
        np.testing.assert_allclose(norms, np.sqrt(2), rtol=1e-5, err_msg=op.name)


def test_a_kernel_of_zeros_gives_no_nan():
    assert not np.isnan(google_mobilenet._gains(np.zeros((4, 3, 3, 2), "float32"))).any()


def test_the_background_class_is_removed(file, ops):
    kernel, bias = google_mobilenet.read(file, ops)["predictions"]
    state = tensors(ops)
    np.testing.assert_array_equal(kernel, state["MobilenetV1/Logits/Conv2d_1c_1x1/weights"][1:, 0, 0].T)
    np.testing.assert_array_equal(bias, state["MobilenetV1/Logits/Conv2d_1c_1x1/Conv2D_bias"][1:])


def test_the_classifier_is_skipped_for_a_network_without_top(file):
    trunk = lower(google_mobilenet.ARCH, ALPHA, (64, 64), include_top=False)
    assert "predictions" not in google_mobilenet.read(file, trunk)


def test_width_is_derived_from_the_first_convolution(file):
    assert google_mobilenet.width_of(file) == ALPHA


def test_other_files_are_rejected(file, ops, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="--alpha"):
        google_mobilenet.read(file, lower(google_mobilenet.ARCH, 0.5, (64, 64), classes=CLASSES))
    with pytest.raises(CheckpointError, match=r"gone\.tflite: no such file"):
        google_mobilenet.read(str(tmp_path / "gone.tflite"), ops)
    monkeypatch.setattr(google_mobilenet, "read_weights", lambda path: {"other/weights": np.zeros(3)})
    with pytest.raises(CheckpointError, match="no key 'Conv2d_0/weights'"):
        google_mobilenet.read(file, ops)
    with pytest.raises(CheckpointError, match="not Google's"):
        google_mobilenet.width_of(file)

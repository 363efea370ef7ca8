import keras
import numpy as np

from fd_keras import FDMobileNet
from fd_keras.litert import Runner
from fd_keras.tflite import export
from fd_keras.tflite.recipes import RECIPES
from tests import needs

needs.package("litert_quantizer")
from benchmarks import litert_quantizer_static as rival  # noqa: E402  (imports the package that is needed above)


def test_files_have_kernels_of_these_bits_and_run(tmp_path):
    keras.utils.set_random_seed(0)
    model = FDMobileNet((64, 64, 3), alpha=0.25, weights=None, classes=10)
    source = tmp_path / "m_float32.tflite"
    source.write_bytes(export.export(model, RECIPES["float32"]))
    images = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype("float32")
    sizes = {}
    for bits in rival.BITS:
        target = tmp_path / f"m_int{bits}.tflite"
        rival.quantize(source, images, bits, target)
        np.testing.assert_allclose(Runner(target)(images).sum(axis=1), 1, atol=0.1)
        sizes[bits] = target.stat().st_size
    assert sizes[4] < 0.75 * sizes[8] < 0.75 * source.stat().st_size

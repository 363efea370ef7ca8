"""Measures training on an accelerator: images per second in a compiled loop on photos in its memory (JAX).

    KERAS_BACKEND=jax python -m benchmarks.accelerator_step --size=224 --batch=256,1024

Each row trains one network on random photos, including crops and flips, and waits for the device only after --steps
steps. "of peak" relates the network's multiply-adds, three times those of an inference, to the speed of a large matrix
product of the same type on the same device. XLA takes a minute or more to compile a row for a GPU.
"""

import argparse
import itertools
import statistics
import time

import jax
import jax.numpy as jnp
import keras
import numpy as np

from benchmarks.device_loop import DeviceTraining, Photos
from fd_keras import cost
from fd_keras.training.recipes import RECIPES

CLASSES = 1000
PHOTOS = 4096
_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def peak(dtype: str, side: int, rounds: int) -> float:
    """Floating-point operations per second of a product of square matrices."""
    left, right = jax.random.normal(jax.random.key(0), (2, side, side)).astype(dtype)
    product = jax.jit(jnp.matmul)
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        product(left, right).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / statistics.median(seconds[1:])  # the first one compiles


def training_of(alpha: float, size: int, batch: int, dtype: str, photos: Photos) -> DeviceTraining:
    """Builds FD-MobileNet with the authors' recipe."""
    keras.config.set_dtype_policy(_POLICIES[dtype])
    recipe = RECIPES["authors"].override(image_size=size, batch_size=batch)
    return DeviceTraining("fd_mobilenet", alpha, recipe, photos, CLASSES)


def speeds(training: DeviceTraining, order: np.ndarray, rounds: int) -> list[float]:
    """Measures images per second for the steps of `order`, without the first round, which compiles."""
    found = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        training.train_steps(order, 0)
        found.append(order.size / (time.perf_counter() - start))
    return found[1:]


def main() -> None:
    """Measures all cases and prints a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--size", type=int, default=224, help="side of the images in pixels")
    add("--batch", default="256,1024", help="batch sizes")
    add("--alpha", default="0.25,1", help="widths of FD-MobileNet")
    add("--dtype", default="float32,bfloat16", help="compute types")
    add("--steps", type=int, default=50, help="steps per measurement")
    add("--rounds", type=int, default=5, help="measurements per case")
    add("--matrix", type=int, default=8192, help="side of the matrices that the peak is measured with")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (PHOTOS, args.size, args.size, 3), "uint8")
    photos = Photos(jnp.asarray(pixels), jnp.asarray(rng.integers(0, CLASSES, PHOTOS).astype("int32")))
    peaks = {dtype: peak(dtype, args.matrix, args.rounds) for dtype in args.dtype.split(",")}
    products = ", ".join(f"{dtype} {value / 1e12:.3g} TFLOP/s" for dtype, value in peaks.items())
    print(f"{jax.devices()[0].device_kind}: matrix product {products}")
    print("| FD-MobileNet | batch | type | images/s | (min-max) | of peak |\n|---|---:|---|---:|---:|---:|")
    for alpha, batch, dtype in itertools.product(args.alpha.split(","), args.batch.split(","), peaks):
        training = training_of(float(alpha), args.size, int(batch), dtype, photos)
        found = speeds(training, rng.integers(0, PHOTOS, (args.steps, int(batch))), args.rounds)
        median = statistics.median(found)
        share = 3 * 2 * cost.profile(training.model).macs * median / peaks[dtype]
        row = f"{median:,.0f} | {min(found):,.0f}-{max(found):,.0f} | {share:.2%}"
        print(f"| {alpha}x | {batch} | {dtype} | {row} |", flush=True)


if __name__ == "__main__":
    main()

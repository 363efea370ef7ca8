"""Quantizes a float32 .tflite file with LiteRT's own quantizer, to compare it with the int8 and int4 recipes.

    pip install litert-quantizer==0.11.0
    fd-keras convert --alpha=0.25 --recipes=float32 --output_dir=out
    python -m benchmarks.litert_quantizer_static out/fd_mobilenet_0.25_224_float32.tflite photos --output_dir=rival

Writes NAME_int8.tflite and NAME_int4.tflite; int4 has 4-bit kernels in convolutions and dense layers. Both files take
float32 images. `fd-keras verify` compares them with the float network.
"""

import argparse
import pathlib

import numpy as np

from fd_keras.litert import load
from fd_keras.tflite.recipes import load_calibration

BITS = (8, 4)  # of the weights


def recipe(bits: int) -> list:
    """Static int8 quantization, with kernels of `bits` bits where the quantizer supports them."""
    from litert_quantizer import qtyping, recipe_manager  # pyright: ignore[reportMissingImports]  (see above)

    ops, manager = qtyping.TFLOperationName, recipe_manager.RecipeManager()
    manager.add_static_config(".*", ops.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    if bits < 8:
        for op in (ops.CONV_2D, ops.FULLY_CONNECTED):
            manager.add_static_config(".*", op, activation_num_bits=8, weight_num_bits=bits)
    return manager.get_quantization_recipe()


def quantize(path: pathlib.Path, images: np.ndarray, bits: int, target: pathlib.Path) -> None:
    """Quantizes a file.

    Args:
        path: float32 .tflite file with one input.
        images: Calibration images, float32 of shape (batch, height, width, channels).
        bits: Bits of the weights, 8 or 4.
        target: File to write.
    """
    from litert_quantizer import quantizer  # pyright: ignore[reportMissingImports]

    static = quantizer.Quantizer(str(path), recipe(bits))
    ((signature, names),) = load(str(path)).get_signature_list().items()
    ranges = static.calibrate({signature: [{names["inputs"][0]: image[None]} for image in images]})
    static.quantize(ranges).export_model(target, overwrite=True)


def main() -> None:
    """Parses the command line and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="float32 .tflite file")
    parser.add_argument("photos", help="folder with calibration images")
    parser.add_argument("--calibration_count", type=int, default=128, help="number of calibration images")
    parser.add_argument("--output_dir", type=pathlib.Path, required=True, help="folder for the two files")
    args = parser.parse_args()
    size = load(str(args.model)).get_input_details()[0]["shape"][1:3].tolist()
    images = load_calibration(args.photos, size, args.calibration_count).images.astype("float32")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for bits in BITS:
        target = args.output_dir / args.model.name.replace("float32", f"int{bits}")
        quantize(args.model, images, bits, target)
        print(target)


if __name__ == "__main__":
    main()

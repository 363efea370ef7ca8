"""Detects files that `convert` arranged for phone CPUs, which need more RAM and MACs on microcontrollers."""

from fd_keras.tflite.format.network import FileNetwork

ADVICE = (
    "arranged for phones (XNNPACK), which needs more RAM and multiplications on a microcontroller; convert the model "
    "again with --c_array, --max_ram or --noxnnpack"
)


def is_for_phones(network: FileNetwork) -> bool:
    """Whether the camera's bytes are converted in float, or the first convolution's pixels are packed."""
    return _converts_in_float(network) or _packs_pixels(network)


def _converts_in_float(network: FileNetwork) -> bool:
    """See `int8.camera_bytes`."""
    first, second = (*network.ops[:2], network.ops[0])[:2]
    pixels = network.tensors[first.inputs[0]] if first.inputs else None
    kinds, starts = (first.kind, second.kind), first.inputs[:1] == network.inputs[:1]
    return kinds == ("DEQUANTIZE", "QUANTIZE") and starts and pixels is not None and pixels.dtype == "UINT8"


def _packs_pixels(network: FileNetwork) -> bool:
    """See `int8.packed_pixels`."""
    makers = {index: op for op in network.ops for index in op.outputs}
    first = next((op for op in network.ops if op.kind == "CONV_2D"), None)
    reshape = makers.get(first.inputs[0]) if first else None
    if first is None or reshape is None or reshape.kind != "RESHAPE":
        return False
    frame, takers = makers.get(reshape.inputs[0]), [op for op in network.ops if first.outputs[0] in op.inputs]
    return frame is not None and frame.kind == "CONCATENATION" and [op.kind for op in takers] == ["RESHAPE"]

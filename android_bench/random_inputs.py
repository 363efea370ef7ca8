"""Random inputs of a LiteRT interpreter."""

from typing import Any


def fill_inputs(interpreter: Any) -> None:
    """Sets the inputs to the same random pixels for every model and call."""
    import numpy as np

    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], random_pixels(rng, detail["shape"], np.dtype(detail["dtype"])))


def random_pixels(rng: Any, shape: Any, dtype: Any) -> Any:
    """Returns an array of values from 0 to 255 (floats) or from the whole range (8- and 16-bit integers).

    Wider integers may be counts or indices, so only 0 and 1 are used.

    Raises:
        ValueError: If the type is not numeric.
    """
    if dtype.kind == "f":
        return rng.uniform(0, 255, shape).astype(dtype)
    if dtype.kind not in "iu":
        raise ValueError(f"inputs of type {dtype} are not supported")
    bits = 8 * dtype.itemsize
    low, high = (0, 1 << bits) if dtype.kind == "u" else (-(1 << bits - 1), 1 << bits - 1)
    return rng.integers(*((low, high) if bits <= 16 else (0, 2)), shape, dtype)

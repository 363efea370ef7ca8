"""How tests run JAX: they mostly compile, and these flags make that four times as fast."""

import os

XLA_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def environment() -> dict[str, str]:
    """Environment of a program that uses Keras's JAX backend."""
    return {**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": XLA_FLAGS}

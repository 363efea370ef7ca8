"""Quantization-aware training: `python -m tflite.qat`, explained in docs/qat.md.

tensorflow-model-optimization works with Keras 2 alone and switches TensorFlow to it, so there are two processes. The
one that the user starts has Keras 3: it prepares the network and writes the files. `distil`, which it starts, has
tf_keras: it trains. They hand each other a `Job` and the trained graph. Of this folder only `__main__` and `start` may
import Keras 3, and only `aware` imports tensorflow-model-optimization.
"""

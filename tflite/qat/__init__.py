"""Quantization-aware training: `fd-keras qat`, explained in docs/qat.md.

tensorflow-model-optimization works only with Keras 2 and switches TensorFlow to it, so there are two processes. The
one that the user starts has Keras 3: it prepares the network and writes the files. `distillation`, which it starts, has
tf_keras: it trains. They exchange a `TrainingJob` and the trained graph as files. In this folder only `__main__` and
`training_process` may import Keras 3, and only `fake_quantization` imports tensorflow-model-optimization.
"""

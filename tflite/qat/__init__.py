"""Quantization-aware training: `fd-keras qat`, explained in docs/qat.md.

tensorflow-model-optimization only works with Keras 2 and switches TensorFlow to it, so there are two processes. The
user's process uses Keras 3, prepares the network and writes the files. It starts `distillation`, which trains with
tf_keras. The processes exchange a `TrainingJob` and the trained graph as files. In this folder, only `__main__` and
`training_process` may import Keras 3, and only `fake_quantization` imports tensorflow-model-optimization.
"""

"""From a Keras model to .tflite files, and the proof that they are right.

`convert` writes them, `verify` compares them with the model they came from, `memory` says what they need.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes would hide what the programs say

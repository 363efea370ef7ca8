"""From a Keras model to .tflite files, and the proof that they are right.

Programs: `convert` writes the files, `verify` compares them with the model they came from, `memory` says what they
need, `qat` trains for integers.

The int8 recipe is in `ptq`: a model becomes a graph (`fold`, `graph`), its channels are made alike (`equalize`), its
weights are rounded and corrected (`correct`). `arrange` puts a graph into the ops that run fastest, `export` has it
converted, `sidecar` describes the file. `compare`, `measure` and `sensitivity` hold it against the model.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes would hide what the programs say

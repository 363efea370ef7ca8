"""ImageNet training: recipes, inputs, and a loop that loses nothing.

`prepare` writes shards, `train` trains, `evaluate` scores, `table2` prints the paper's table 2 with what was trained.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes would hide what the programs say

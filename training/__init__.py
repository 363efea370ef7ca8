"""Training on ImageNet or on the user's photos: recipes, input pipeline, and runs that survive interruption.

Programs: `prepare` writes shards, `train` trains, `evaluate` scores a model, and `table2` compares the runs on this
machine with the paper's table 2. `voc` trains detectors.
"""

"""Training on ImageNet or on one's own photos: recipes, input pipeline, and runs that survive interruption.

Programs: `prepare` writes shards, `train` trains, `evaluate` scores a model, `table2` prints the paper's table 2 with
what was trained here beside it. `voc` trains detectors.
"""

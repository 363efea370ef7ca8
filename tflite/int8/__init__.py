"""The int8 recipe: prepares a Keras model so that quantization loses almost no accuracy.

The steps, in order: `fold` converts the model to a `graph` and folds batch normalization, `equalize` equalizes the
ranges of the channels, `gptq` rounds and corrects the weights, and `xnnpack_ops` chooses the ops that XNNPACK runs
fastest. `pipeline` runs the steps. After conversion, `packed_pixels` and `camera_bytes` arrange the file for XNNPACK.
"""

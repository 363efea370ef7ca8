"""The int8 recipe: from a Keras model to a graph that loses almost nothing when the converter rounds it.

In the order in which the steps run: `fold` makes a `graph` of the model with batch normalization folded in,
`equalize` makes its channels alike, `gptq` rounds and corrects the weights, `xnnpack_ops` chooses the ops that XNNPACK
runs fastest. `pipeline` runs the steps. `packed_pixels` and `camera_bytes` then arrange the file for XNNPACK.
"""

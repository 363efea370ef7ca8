"""Comparison of .tflite files with the model they came from, step by step of the recipe and layer by layer."""

"""Accuracy of .tflite files against the model that they were made from; the logic of `verify`."""

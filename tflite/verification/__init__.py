"""Accuracy of .tflite files compared with the model that they were made from; the logic of `verify`."""

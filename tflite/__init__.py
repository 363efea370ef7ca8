"""Conversion of Keras models to .tflite files, and the evidence that the files are right.

Programs: `convert` writes files, `verify` compares them with the model they came from, `convert_detector` converts a
detector, `memory` estimates what a microcontroller needs for a file, `qat` trains for integers.
"""

"""Conversion of Keras models to .tflite files, and verification of the files.

Programs: `convert` writes files, `verify` compares them with their source model, `convert_detector` converts a
detector, `memory` estimates the RAM and flash that a microcontroller needs, and `qat` runs quantization-aware training.
"""

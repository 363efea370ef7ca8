"""The version, where packaging can read it without importing Keras."""

__version__ = "0.2.0"

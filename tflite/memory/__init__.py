"""What a network needs on a microcontroller: `python -m tflite.memory`, explained in docs/microcontrollers.md."""

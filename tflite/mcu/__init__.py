"""Projects for microcontrollers: a .tflite file with all that it takes to run it on camera frames (`export-mcu`)."""

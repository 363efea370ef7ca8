"""Projects for microcontrollers that run a .tflite file on camera frames; the logic of `export-mcu`."""

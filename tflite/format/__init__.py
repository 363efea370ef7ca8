""".tflite files: reading and writing the flatbuffer, the metadata inside and the JSON file beside it."""

"""Times `.tflite` files on phones, boards and this machine, side by side and in rounds, and keeps every measurement.

`run` is the program. A target turns a `plan.Plan` into `rows.Row`s: `tool.Tool`, the benchmark tool behind a
`shell.Shell` (adb, ssh or this machine), or `host.Host`, the LiteRT interpreter. Everything after that (files,
statistics, report) is the same for all targets. Importing any module here needs the standard library alone, so that a
bench machine needs no TensorFlow.
"""

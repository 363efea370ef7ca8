"""Times `.tflite` files on phones, boards and this machine, interleaved in rounds, and keeps every measurement.

`run` is the program. A target turns a `plan.Plan` into `rows.Row`s: `device_target.DeviceTarget`, the benchmark tool
behind a `shell.Shell` (adb, ssh or this machine), or `host_target.HostTarget`, the LiteRT interpreter. Everything after
that (files, statistics, report) is the same for all targets. Importing any module here needs only the standard library,
so that a bench machine needs no TensorFlow.
"""

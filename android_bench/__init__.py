"""Times .tflite files on phones, boards and this machine, interleaved in rounds, and stores every measurement.

`run` is the program. A target (`session.Target`) turns a `plan.BenchPlan` into rows (`rows.Row`):
`device_target.DeviceTarget`, the benchmark tool behind a `shell.Shell` (adb, ssh or this machine), or
`host_target.HostTarget`, the LiteRT interpreter. Everything after that (files, statistics, report) is the same for all
targets.

This package also runs alone, copied to a bench machine without the rest of fd_keras: its modules import only each other
and, at import, the standard library.
"""

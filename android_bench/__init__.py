"""Times .tflite files on phones, boards and this machine in interleaved rounds, and stores every measurement.

`run` is the program. A target (`session.Target`) executes a `plan.BenchPlan` and yields rows (`rows.Row`):
`device_target.DeviceTarget` runs the benchmark tool through a `shell.Shell` (adb, ssh or this machine),
`host_target.HostTarget` runs the LiteRT interpreter. Files, statistics and report are the same for all targets.

This package can be copied to a bench machine without the rest of fd_keras: when imported, its modules import only each
other and the standard library.
"""

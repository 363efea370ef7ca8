"""Runs test devices in this network namespace; each is a Debian with a real adbd and sshd.

    run_devices.py ROOT WORK PORT...

Run as root inside `unshare -n -m -p -f --kill-child` with a pipe as standard input, so that it ends with the caller and
is not visible outside. WORK/PORT is the root of the device whose adbd listens on PORT and whose sshd listens on PORT +
1000. Creating WORK/PORT.down switches the device off; WORK/PORT.off exists while it is off.
"""

import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

_ADBD = "/usr/lib/android-sdk/platform-tools/adbd"
_PATH = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def loopback_up():
    """Brings up the loopback interface."""
    with socket.socket() as some:
        fcntl.ioctl(some, 0x8914, struct.pack("16sh14s", b"lo", 1, b""))


def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True)


def wait_for(port):
    """Waits until a port is open."""
    while True:
        with socket.socket() as some:
            if some.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)


def make(root, device, storage):
    """Mounts a device as an overlay over `root`, so that writes do not change it; its storage has a fixed size."""
    layers = [device.with_suffix(f".{name}") for name in ("upper", "work")]
    for folder in (device, *layers):
        folder.mkdir(parents=True)
    mount("-t", "overlay", "-o", f"lowerdir={root},upperdir={layers[0]},workdir={layers[1]}", "overlay", device)
    mount("-t", "proc", "proc", device / "proc")
    mount("-t", "devtmpfs", "dev", device / "dev")
    for folder in ("data/local/tmp", "fake", "run/sshd"):
        (device / folder).mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={storage}", "storage", device / "data/local/tmp")


def start(device, port):
    environment = {**_PATH, "ADBD_PORT": str(port), "HOME": "/root"}
    sshd = [
        "/usr/sbin/sshd",
        "-D",
        "-p",
        str(port + 1000),
        "-o",
        "UsePAM=no",
        "-o",
        "UseDNS=no",
        "-o",
        "StrictModes=no",
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return [
        subprocess.Popen(["chroot", device, *command], env=environment, **quiet)
        for command in ([_ADBD], sshd)
    ]  # fmt: skip


def stop(processes):
    for process in processes:
        process.kill()
        process.wait()


def main():
    root, work, *ports = sys.argv[1:]
    loopback_up()
    mount("-t", "tmpfs", "work", work)  # an overlay cannot be mounted on another one
    (Path(work) / "ready").unlink(missing_ok=True)
    devices = {int(port): Path(work) / port for port in ports}
    for device in devices.values():
        make(root, device, "4m")
    running = {}
    adb_home = Path(work) / "home"
    adb_home.mkdir()
    adb = {**os.environ, "HOME": str(adb_home), "TMPDIR": str(adb_home)}
    subprocess.Popen(["adb", "nodaemon", "server"], env=adb, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(int(os.environ["ANDROID_ADB_SERVER_PORT"]))  # otherwise a client would start its own server
    while True:
        for port, device in devices.items():
            if device.with_suffix(".down").exists():
                stop(running.pop(port, []))
                device.with_suffix(".off").touch()
            elif port not in running or any(process.poll() is not None for process in running[port]):
                stop(running.pop(port, []))
                device.with_suffix(".off").unlink(missing_ok=True)
                running[port] = start(device, port)
        (Path(work) / "ready").touch()
        if select.select([sys.stdin], [], [], 0.1)[0]:  # end of input: the caller has ended
            return


if __name__ == "__main__":
    main()

"""Fixing a device's clocks, and waiting for it to cool down."""

import time
from collections.abc import Callable
from typing import Any

from . import device_info
from .device_guard import FIXED_PERFORMANCE
from .device_settings import DeviceSettings
from .messages import log
from .shell import Shell
from .thermal_sensors import Thermometer

_POLL_SECS = 2.0


def hold_clocks(shell: Shell) -> bool:
    """Fixes a phone's clocks (Android's fixed-performance mode); returns whether the phone supports it."""
    return shell.run(f"{FIXED_PERFORMANCE} true").status == 0


def release_clocks(shell: Shell) -> None:
    """Ends fixed-performance mode."""
    shell.run(f"{FIXED_PERFORMANCE} false")


def cool_down(
    shell: Shell, settings: DeviceSettings, stop: Callable[[], bool], thermometer: Thermometer | None = None
) -> list[str]:
    """Rests before a launch, and waits until the device is cool.

    Args:
        shell: The device.
        settings: Time to rest, and temperature to wait for.
        stop: Ends the wait early.
        thermometer: The temperature readings of this run so far.

    Returns:
        A flag for the row if the device stayed too hot; otherwise empty.
    """
    sleep(settings.cooldown, stop)
    thermometer = thermometer or Thermometer()
    limit, deadline, logged = settings.max_temp, time.monotonic() + settings.max_wait, False
    while limit is not None and not stop():
        temperature, sensor = thermometer.read(device_info.read_state(shell)["sensors"])
        if temperature is None or temperature <= limit:
            return []
        if time.monotonic() > deadline:
            return [f"{temperature:.0f} degrees, above --max_temp={limit:g}"]
        if not logged:
            log("waiting", f"{shell.serial} is at {temperature:.0f} degrees ({sensor}): cooling down to {limit:g}")
            logged = True
        sleep(_POLL_SECS, stop)
    return []


def cooling_warnings(settings: DeviceSettings, state: dict[str, Any]) -> list[str]:
    """Returns a warning if `max_temp` is set for a device that does not report its temperature."""
    if settings.max_temp is None or state["temperature"] is not None:
        return []
    limit = f"--max_temp={settings.max_temp:g}"
    return [f"the device does not report its temperature: {limit} has no effect; use --cooldown instead"]


def sleep(seconds: float, stop: Callable[[], bool]) -> None:
    """Sleeps for some seconds, or until `stop()` is true."""
    deadline = time.monotonic() + seconds
    while not stop() and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(0.2, left))

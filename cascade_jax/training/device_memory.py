"""How much memory a device has."""

import os
from pathlib import Path

import jax

_CONTROL_GROUP = Path("/sys/fs/cgroup/memory.max")  # what a Linux container may take


def device_memory(device: jax.Device) -> tuple[int | None, str]:
    """How many bytes a device has, and who says so; None where nobody does.

    Devices that are the processor share the memory of the host, or what its container may take of it.
    """
    stated = (device.memory_stats() or {}).get("bytes_limit")
    if stated:
        return int(stated), "what JAX may take of the device's memory"
    if device.platform != "cpu":
        return None, "unknown: the device does not say"
    try:
        host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None, "unknown: the system does not say"
    if _CONTROL_GROUP.exists() and (limit := _CONTROL_GROUP.read_text().strip()).isdigit():
        host = min(host, int(limit))
    devices = jax.local_device_count()
    return host // devices, "the host's memory" if devices == 1 else f"the host's memory, in {devices} shares"

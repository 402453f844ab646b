"""What a machine is: its devices, its processor, its programs, and the version of this one."""

import datetime
import os
import platform
import subprocess
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_CPU, _MEMORY, _NVIDIA_DRIVER = (Path("/proc") / name for name in ("cpuinfo", "meminfo", "driver/nvidia/version"))
# What changes how fast a program is, or how much memory it may have.
_SETTINGS = (
    "XLA_FLAGS",
    "LIBTPU_INIT_ARGS",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DISABLE_MOST_OPTIMIZATIONS",
    "NVIDIA_TF32_OVERRIDE",
)


def describe() -> dict:
    """The environment of a measurement, to be asked in a process that has been set up as the measured one is."""
    import jax

    from cascade_jax.training.environment import environment

    device = jax.local_devices()[0]
    return environment() | {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "platform": device.platform,
        "platform_version": device.client.platform_version,
        "driver": _driver(),
        "memory_bytes_of_a_device": (device.memory_stats() or {}).get("bytes_limit"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes_of_the_host": host_memory("MemTotal"),
        "settings": {name: os.environ[name] for name in _SETTINGS if name in os.environ},
    }


def commit() -> str | None:
    """The commit of a checkout, with "-dirty" where files differ from it; None where this is an installed package."""
    if not (_ROOT / ".git").exists():
        return None
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


def host_memory(name: str) -> int | None:
    """Bytes of the host's memory, "MemTotal" or "MemAvailable"; None where the system does not say."""
    return _kilobytes(_MEMORY.read_text(), name) if _MEMORY.exists() else None


def _kilobytes(text: str, name: str) -> int | None:
    found = [line.split()[1] for line in text.splitlines() if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None


def _processor() -> str:
    lines = _CPU.read_text().splitlines() if _CPU.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _driver() -> str | None:
    """Of an NVIDIA GPU; what other devices have is in their platform's version."""
    return _NVIDIA_DRIVER.read_text().splitlines()[0] if _NVIDIA_DRIVER.exists() else None

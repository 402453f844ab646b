"""One process set up for this library's programs on a CPU."""

import ctypes
import os
import sys

import jax
import jaxlib

# Sends convolutions to the faster of the two libraries of XLA's CPU backend, and sums of instance norm to the other.
# It is experimental: with two programs at once, some convolutions were computed wrongly (docs/performance.md). So it is
# not for a processor that JAX shows as several devices, which compute at the same time.
FASTER_CONVOLUTIONS = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"
_KNOWN_TO = ((0, 10), (0, 13))  # from which jaxlib on, and before which; an unknown flag ends the process

# Names as in malloc.h; see mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def configure(*, hold_memory: bool = False) -> None:
    """Sets this process up for a CPU; where JAX has another platform, nothing of it matters.

    For commands, at their start: it changes the whole process, and XLA reads its flags once, when JAX is first asked
    for devices or given anything to compute. Afterwards programs run one at a time, while they are called, with the
    faster of XLA's convolutions where the processor is one device.

    Args:
        hold_memory: with the GNU C library, also keep programs' working memory from call to call. It makes training
            faster; a prediction is not, and takes more memory.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    version = tuple(int(part) for part in jaxlib.__version__.split(".")[:2])
    several = "xla_force_host_platform_device_count" in flags or jax.config.values["jax_num_cpu_devices"] > 1
    if not several and "xla_cpu_experimental_ynn" not in flags and _KNOWN_TO[0] <= version < _KNOWN_TO[1]:
        os.environ["XLA_FLAGS"] = f"{flags} {FASTER_CONVOLUTIONS}".strip()
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if hold_memory and jax.default_backend() == "cpu":
        _hold_freed_memory()


def _hold_freed_memory() -> None:
    """Has the GNU C library hold on to what is freed, but for what a compilation leaves.

    XLA takes a program's working memory, 0.7 to 3 GB in training, anew at every call. Handed back to the system in
    between, its pages would have to be found and cleared again, one by one. Compiling a training step leaves half a
    gigabyte that is never needed again.
    """
    if not sys.platform.startswith("linux") or not hasattr(library := ctypes.CDLL(None), "gnu_get_libc_version"):
        return
    library.mallopt(_M_MMAP_MAX, 0)
    library.mallopt(_M_TRIM_THRESHOLD, -1)

    def after_compiling(event: str, duration_secs: float, **_: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            library.malloc_trim(0)

    jax.monitoring.register_event_duration_secs_listener(after_compiling)
